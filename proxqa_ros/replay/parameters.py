"""The parameters of `replay_evaluation` and what an action's goal makes of them: one frozen request per evaluation.

Promises: `config/replay_evaluation.yaml` names every parameter declared here with its default (a test compares the
two); a goal can name no file outside the folders that the parameters name; what cannot be used raises
BadParameterError with one line. Knows nothing of topics or of playing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rclpy.node import Node

from proxqa_core.errors import BadObjectError
from proxqa_core.types import ObjectQuery
from proxqa_ros.common.conversions import object_queries
from proxqa_ros.common.parameters import ALLOW_REMOTE, ALLOW_REMOTE_SPEC, BadParameterError, Spec

SPECS: dict[str, Spec] = {
    "bag": Spec("", "Bag to evaluate at start, then the node ends; '' = wait for goals.", read_only=True),
    "json": Spec("", "File for that evaluation's report as JSON; '' = none.", read_only=True),
    "html": Spec("", "File for that evaluation's report as a page; '' = none.", read_only=True),
    "bag_folder": Spec("", "Folder of the bags that goals may name; '' = goals are refused.", live=True, locked=True),
    "report_folder": Spec(
        "", "Folder for the reports that goals ask for; '' = none is written.", live=True, locked=True
    ),
    ALLOW_REMOTE: ALLOW_REMOTE_SPEC,
    "image_topic": Spec("", "Topic of the images in the bag; '' = the only one.", live=True),
    "truth_topic": Spec("", "Topic of true depths in the bag; '' = the one named ground_truth, if any.", live=True),
    "depth_topic": Spec(
        "", "Topic of aligned depth images to judge by instead; '' = the only one, without labels.", live=True
    ),
    "tolerance": Spec(0.05, "Most seconds between an image and its depth image.", 0.0, 10.0, live=True),
    "play_depth_topic": Spec("", "Topic of depth images to play to the node, which calibrates metres.", live=True),
    "objects": Spec([""], "Names of the objects to look for; [''] = the labels', else the node's own.", live=True),
    "rate": Spec(1.0, "So many times faster than recorded.", 0.01, 100.0, live=True),
    "loops": Spec(1, "So often is the bag played.", 1, 1000, live=True),
    "max_seconds": Spec(0.0, "Play only the bag's first so many seconds; 0 = all of it.", 0.0, 86400.0, live=True),
    "start_timeout": Spec(120.0, "Longest wait for an active proximity node, seconds.", 0.0, 3600.0, live=True),
    "settle_time": Spec(5.0, "Longest wait for the answer to a loop's last image, seconds.", 0.0, 600.0, live=True),
}
"""Those that are live hold from the next evaluation on."""


@dataclass(frozen=True)
class ReplayRequest:
    """One evaluation; the topics as in the parameters of their names.

    Args:
        bag: The bag's folder.
        image_topic: '' = the only one.
        truth_topic: '' = the one named ground_truth, if any.
        depth_topic: Depth images to judge by instead; '' = the only ones where there are no labels, if any.
        tolerance: Most seconds between an image and its depth image.
        play_depth_topic: Depth images to play to the node; '' = none.
        objects: What to look for; () = the labels', else the node's own.
        rate: So many times faster than recorded.
        loops: So often is the bag played.
        seconds: Of the bag's beginning; inf = all of it.
        start_timeout: Longest wait for an active node, in seconds.
        settle_time: Longest wait for the answer to a loop's last image, in seconds.
        json: File for the report as JSON; None = none is written.
        html: File for the report as a page; None = none is written.

    Raises:
        BadParameterError: A value cannot be used.
    """

    bag: Path
    image_topic: str = ""
    truth_topic: str = ""
    depth_topic: str = ""
    tolerance: float = 0.05
    play_depth_topic: str = ""
    objects: tuple[ObjectQuery, ...] = ()
    rate: float = 1.0
    loops: int = 1
    seconds: float = math.inf
    start_timeout: float = 120.0
    settle_time: float = 5.0
    json: Path | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        if self.truth_topic and self.depth_topic:
            raise BadParameterError(
                f"truth_topic is {self.truth_topic!r} and depth_topic {self.depth_topic!r}; expected one of them"
            )
        for name in ("rate", "loops"):
            low, high, value = SPECS[name].low, SPECS[name].high, getattr(self, name)
            assert low is not None and high is not None
            if not low <= value <= high:
                raise BadParameterError(f"{name} is {value}; expected {low:g} to {high:g}")
        if not self.seconds > 0:
            raise BadParameterError(f"max_seconds is {self.seconds}; expected 0 or more, 0 = the whole bag")
        for file in (self.json, self.html):
            if file is not None and (file.is_dir() or not file.parent.is_dir()):
                raise BadParameterError(
                    f"report {str(file)!r} cannot be written; expected a file in a folder that exists"
                )

    def command(self) -> list[str]:
        """The words of a command that asks for the same."""
        words = ["replay_evaluation", "--ros-args"]
        for of in fields(self):
            value = getattr(self, of.name)
            if value == of.default:
                continue
            text = "[" + ", ".join(q.name for q in value) + "]" if of.name == "objects" else str(value)
            words += ["-p", f"{'max_seconds' if of.name == 'seconds' else of.name}:={text}"]
        return words


def request_of_parameters(node: Node) -> ReplayRequest | None:
    """The evaluation that the parameter `bag` asks for; None where it is empty.

    Raises:
        BadParameterError: The parameters cannot be used.
    """
    values = _values(node)
    if not values["bag"]:
        return None
    files = {name: Path(values[name]) if values[name] else None for name in ("json", "html")}
    return ReplayRequest(bag=_path(values["bag"]), json=files["json"], html=files["html"], **_common(values))


def request_of_goal(node: Node, goal: Any) -> ReplayRequest:
    """The evaluation that a goal asks for: by its own fields where they are given, else by the parameters.

    Args:
        node: The node, with all of SPECS declared.
        goal: An EvaluateBag.Goal.

    Raises:
        BadParameterError: It cannot be used, or names a file outside the folders that goals may name.
    """
    values = _with_goal(_values(node), goal)
    files = _report_files(values["report_folder"], goal.report_name)
    return ReplayRequest(
        bag=_inside(values["bag_folder"], goal.bag), json=files.get("json"), html=files.get("html"), **_common(values)
    )


def _with_goal(values: dict[str, Any], goal: Any) -> dict[str, Any]:
    """The parameters' values, overridden by what the goal gives."""
    for name in ("image_topic", "truth_topic", "depth_topic", "objects"):
        if given := getattr(goal, name):
            values[name] = given
    if goal.truth_topic and not goal.depth_topic:  # the goal's choice, not both
        values["depth_topic"] = ""
    if goal.depth_topic and not goal.truth_topic:
        values["truth_topic"] = ""
    for name in ("rate", "loops", "max_seconds"):
        if getattr(goal, name) != 0:
            values[name] = getattr(goal, name)
    return values


def _report_files(folder: str, name: str) -> dict[str, Path]:
    """The files of the report that a goal names, by kind; none where it names none."""
    if not name:
        return {}
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
        raise BadParameterError(f"report_name is {name[:60]!r}; expected 1 to 100 letters, digits, '-' and '_'")
    if not folder:
        raise BadParameterError("report_name is given, but the parameter report_folder is empty; set it first")
    return {kind: Path(folder) / f"{name}.{kind}" for kind in ("json", "html")}


def _values(node: Node) -> dict[str, Any]:
    return {name: node.get_parameter(name).value for name in SPECS}


def _common(values: dict[str, Any]) -> dict[str, Any]:
    names = list(values["objects"] or ())
    try:
        objects = () if names == [""] else object_queries(names)
    except BadObjectError as error:
        raise BadParameterError(f"objects: {error}") from error
    seconds = float(values["max_seconds"])
    if not math.isfinite(seconds):
        raise BadParameterError(f"max_seconds is {seconds}; expected 0 or more, 0 = the whole bag")
    return {
        **{name: values[name] for name in ("image_topic", "truth_topic", "depth_topic", "play_depth_topic")},
        **{name: float(values[name]) for name in ("tolerance", "rate", "start_timeout", "settle_time")},
        "loops": int(values["loops"]),
        "objects": tuple(objects),
        "seconds": seconds if seconds != 0 else math.inf,
    }


def _path(text: str) -> Path:
    if "\x00" in text or len(text) > 4096:
        raise BadParameterError(f"bag is {text[:60]!r}; expected the path of a rosbag2")
    return Path(text)


def _inside(folder: str, bag: str) -> Path:
    """The bag that a goal names: it may come from anybody, so it must lie in the folder, wherever links lead."""
    if not folder:
        raise BadParameterError("the parameter bag_folder is empty: goals may name no bag; set it first")
    if not bag:
        raise BadParameterError("bag is empty; expected the path of a bag in bag_folder")
    root = Path(folder).resolve()
    try:
        path = (root / _path(bag)).resolve()
    except (OSError, RuntimeError) as error:  # a name too long, links in a circle
        raise BadParameterError(f"bag {bag[:60]!r} cannot be looked up: {error}") from error
    if not path.is_relative_to(root) or path == root:
        raise BadParameterError(f"bag {bag[:60]!r} is not in bag_folder; expected the path of a bag in it")
    return path
