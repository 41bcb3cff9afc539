"""`make demo`: plays a bag to the real node over ROS and asks it what is near.

Promises: the node runs as a process of its own with the real model, images reach it and answers leave it through DDS
only, and bag time is kept. Exit 0 if and only if depths came and questions were answered; else one clear line and
exit 1 (2 where the arguments are wrong). It ends by its deadline in any case and leaves no process behind.

    make demo
    make demo BAG=path/to/bag TOPIC=/camera/color/image_raw/compressed OBJECTS="desk, monitor, keyboard"
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # when started as a file: the checkout, not this folder

import numpy as np
from PIL import Image as PilImage
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest

from demo.errors import DemoError
from demo.ros_side import START_TIMEOUT_S, RosSide, answer_of, command_of
from demo.table import agreement, by_name, depth_table
from proxqa_core.cli.common import PICTURE_ENDINGS
from proxqa_core.errors import BadObjectError, ProxqaError
from proxqa_core.evaluation.bag_runner import Selection
from proxqa_core.rosbags.bag import COMPRESSED, RAW, Bag, Recorded, StampedReader, names_in
from proxqa_core.stamps import nanoseconds
from proxqa_core.types import Box
from proxqa_core.vision.drawing import annotate
from proxqa_ros.common.conversions import image_to_rgb, message_to_object, object_queries
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.srv import ProximityQuery
from proxqa_ros.testing.domain import own_domain, ros_environment
from proxqa_ros.testing.process import NodeProcess

OWN_BAG = Path(__file__).resolve().parent / "bag"
MAX_NAMES = 9
"""Objects taken from the bag's truth where none are named."""
PICTURE_WIDTH_PX = 960
"""Smaller images are enlarged, by a whole number, to about this width."""
KINDS = {RAW: Image, COMPRESSED: CompressedImage}
NODE_CODE = ""
"""Python code to run as the node; '' = the node of this package."""
FRAME_COUNTS = ("received", "answered", "dropped", "bad", "failed")
"""The node's own counts of frames in its diagnostics, without their prefix `frames_`."""
TRANSPORT_TIME_S = 0.2
"""Seconds that the last image may take to the node."""


@dataclass(frozen=True)
class Asked:
    """A question and its answer.

    Attributes:
        question: As it was asked.
        response: The node's response.
        truth: The true depths, as text; '' = unknown.
    """

    question: str
    response: ProximityQuery.Response
    truth: str

    @property
    def stamp(self) -> int:
        """Of the image that was asked about, in nanoseconds."""
        return nanoseconds(self.response.image_stamp)


def message_of(frame: Recorded) -> Image | CompressedImage:
    """A recorded image as a ROS message."""
    return deserialize_message(frame.raw, KINDS[frame.kind])


def truth_in(bag: Bag) -> dict[int, Any]:
    """The true depths of objects (ObjectDepthArray) by image stamp (ns); empty where the bag holds none."""
    topic = bag.truth_topic()
    return {} if topic is None else {nanoseconds(m.header.stamp): m for m in StampedReader(bag, topic)}


def truth_text(response: ProximityQuery.Response, truth: dict[int, Any]) -> str:
    """The true depths of the objects of an answer, nearest first; '' where not all are known."""
    array = truth.get(nanoseconds(response.image_stamp))
    known = by_name(array.objects) if array else {}
    names = [o.name for o in response.objects]
    if not names or any(name not in known for name in names):
        return ""
    return ", ".join(f"{o.name} {o.depth:.2f}" for o in sorted((known[n] for n in names), key=lambda o: o.distance))


def questions_of(names: Sequence[str]) -> list[str]:
    """What is asked while the bag plays."""
    asked = [f"Which is closer, the {a} or the {b}?" for a, b in itertools.pairwise(names[:3])]
    return [*asked, f"How far is the {names[-1]}?"]


def demo(args: argparse.Namespace) -> None:
    """The whole demo.

    Args:
        args: Of the command line.

    Raises:
        DemoError: It does not succeed.
        ProxqaError: The bag or the node is at fault.
    """
    objects = names_of(args.objects)
    with Bag(args.bag, asked_by="TOPIC=…") as bag:
        topic = bag.image_topic(args.topic)
        frames = list(Selection(seconds=args.seconds).of(bag.messages(topic)))
        truth = truth_in(bag)
    played = {frame.stamp: frame for frame in frames}
    names = objects or names_in([truth[s] for s in played if s in truth], MAX_NAMES)
    if not names:
        raise DemoError(f'bag {str(args.bag)!r} does not say what is in it; name objects with OBJECTS="chair, table"')
    log = log_beside(args.out)
    with own_domain() as domain:
        os.environ.update(ros_environment(domain))
        show(f"starting the node (its log: {log}) …")
        started = time.monotonic()
        command = command_of(topic, names, args.model, args.adapter, NODE_CODE)
        with NodeProcess(command, domain, log) as node, RosSide(domain, topic) as ros:
            ros.wait_until_active(node, START_TIMEOUT_S)
            show(f"active after {time.monotonic() - started:.1f} s: model {ros.counts().get('model', '?')!r}")
            show(f"playing {len(frames)} images of {topic.name} from {args.bag}")
            asked = replay(ros, frames, names, truth)
            time.sleep(TRANSPORT_TIME_S)
            last = [ask(ros, question, names, truth) for question in (*questions_of(names)[:1], "What is nearest?", "")]
            *answers, named = last
            if any(a.stamp not in played for a in (*asked, *last)):
                raise DemoError("an answer is about an image of a stamp that the bag does not hold")
            true = by_name(truth[named.stamp].objects) if named.stamp in truth else {}
            boxed = ask_by_box(ros, [o for o in true.values() if o.name in names])
            ros.wait_for_the_rest()
            node.check()
            counts, depths = ros.counts(), list(ros.depths)
    report(asked, answers)
    show("\nThe last image, relative depth (0 = nearest in view, 1 = farthest) ± standard deviation:\n")
    show(depth_table(names, by_name(named.response.objects), by_name(boxed), true))
    summary(len(frames), counts, depths, truth)
    picture(played[named.stamp], named.response.objects, boxed, answers[0], args.out)
    if not depths or any(nanoseconds(d.header.stamp) not in played for d in depths):
        raise DemoError(f"{len(depths)} messages came on object_depths; expected some, all with stamps of the bag")
    if not any(a.response.success for a in (*asked, *last)):
        raise DemoError(f"none of {', '.join(names)} was seen; name objects that are in the bag with OBJECTS=…")


def log_beside(picture: Path) -> Path:
    """The node's log, after a check that both have a place.

    Raises:
        DemoError: Nothing can be written there.
    """
    log = picture.with_suffix(".log")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        raise DemoError(f"{log}: cannot be written ({error.strerror}); choose another place with --out") from error
    return log


def replay(ros: RosSide, frames: Sequence[Recorded], names: Sequence[str], truth: dict[int, Any]) -> list[Asked]:
    """Play the frames and ask the questions meanwhile, evenly spread."""
    questions = questions_of(names)
    waiting: list[tuple[str, Future[Any]]] = []
    for i, _ in enumerate(ros.player.play(frames), start=1):
        if len(waiting) < len(questions) and i >= len(frames) * (len(waiting) + 1) // (len(questions) + 1):
            question = questions[len(waiting)]
            waiting.append((question, ros.ask(question)))
    answers = [(question, answer_of(future, question)) for question, future in waiting]
    return [Asked(question, response, truth_text(response, truth)) for question, response in answers]


def ask(ros: RosSide, question: str, names: Sequence[str], truth: dict[int, Any]) -> Asked:
    """Ask about the newest image; '' = the depths alone."""
    response = answer_of(ros.ask(question, names), question or "the depths of all objects by name")
    return Asked(question, response, truth_text(response, truth))


def ask_by_box(ros: RosSide, true: Sequence[Any]) -> list[Any]:
    """The depths of the true objects in the newest image, asked with their regions; empty where there are none."""
    if not true:
        return []
    future = ros.ask("", [o.name for o in true], [region_of(o) for o in true])
    return list(answer_of(future, "the depths of all objects by box").objects)


def region_of(true: Any) -> RegionOfInterest:
    """The region of an object of the bag's truth as ROS's own message."""
    r = true.region
    return RegionOfInterest(x_offset=r.x_offset, y_offset=r.y_offset, width=r.width, height=r.height)


def report(meanwhile: Sequence[Asked], afterwards: Sequence[Asked]) -> None:
    """Print questions and answers."""
    for title, asked in (("While the bag played:", meanwhile), ("About the last image:", afterwards)):
        show(f"\n{title}")
        for a in asked:
            show(f"  {a.question}\n    {a.response.answer}  [{a.response.latency:.2f} s]")
            if a.truth:
                show(f"    truth: {a.truth}")


def summary(played: int, counts: dict[str, str], depths: Sequence[ObjectDepthArray], truth: dict[int, Any]) -> None:
    """Print how many images were played and answered, and how well the depths agree with the truth."""
    by_node = ", ".join(f"{counts.get('frames_' + name, '?')} {name}" for name in FRAME_COUNTS)
    show(f"\nimages: {played} played; by the node's count {by_node}")
    show(f"object_depths: {len(depths)} messages")
    known = [(d, truth[s]) for d in depths if (s := nanoseconds(d.header.stamp)) in truth]
    if known:
        show(f"against the truth, by name: {agreement((by_name(d.objects), by_name(t.objects)) for d, t in known)}")


def picture(frame: Recorded, named: Sequence[Any], boxed: Sequence[Any], asked: Asked, out: Path) -> None:
    """The frame, small ones enlarged, with the objects, a question and its answer drawn in.

    Args:
        frame: The image.
        named: What the model found by name; drawn where there is nothing by box.
        boxed: What it read in boxes that were given, which the picture says.
        asked: The question.
        out: Where the picture goes.
    """
    image = PilImage.fromarray(image_to_rgb(message_of(frame)))
    times = max(1, PICTURE_WIDTH_PX // image.width)
    large = np.asarray(image.resize((image.width * times, image.height * times), PilImage.Resampling.BICUBIC))
    objects = []
    for o in map(message_to_object, boxed or named):
        box = o.box and Box(*(times * side for side in o.box.xyxy))
        given, found = (box, None) if boxed else (None, box)
        objects.append(dataclasses.replace(o, box=given, found_at=found))
    where = "Boxes: given, from the bag." if boxed else "Boxes: found by the model."
    drawn = annotate(large, objects, f"{asked.question} {asked.response.answer} {where}")
    PilImage.fromarray(drawn).save(out)
    show(f"picture: {out}")


def show(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def names_of(text: str) -> list[str]:
    """The names in comma-separated text.

    Raises:
        DemoError: A name cannot be used.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return [query.name for query in object_queries(names)]
    except BadObjectError as error:
        raise DemoError(f"OBJECTS {text!r}: {error}") from error


def seconds_of(text: str) -> float:
    """A duration of the command line."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; expected seconds, above 0 and at most 3600")
    return value


def picture_of(text: str) -> Path:
    """The picture to write; its folder is made later."""
    path = Path(text)
    if path.suffix.lower() not in PICTURE_ENDINGS or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no picture to write; expected a name that ends in .jpg or .png")
    return path


def parser() -> argparse.ArgumentParser:
    """Of the command line; the defaults may come from the environment."""
    env = os.environ.get
    p = argparse.ArgumentParser(prog="demo", description="Play a bag to the node and ask it what is near.")
    p.add_argument("--bag", type=Path, default=Path(env("BAG") or OWN_BAG), help="rosbag2 folder (BAG)")
    p.add_argument(
        "--topic", default=env("TOPIC", ""), help="image topic, raw or compressed; '' = the only one (TOPIC)"
    )
    p.add_argument(
        "--objects", default=env("OBJECTS", ""), help="names, comma-separated; '' = the bag's truth's (OBJECTS)"
    )
    p.add_argument("--model", default=env("MODEL", ""), help="the node's parameter model (MODEL)")
    p.add_argument("--adapter", default=env("ADAPTER", ""), help="the node's parameter adapter (ADAPTER)")
    p.add_argument(
        "--seconds", type=seconds_of, default=12.0, help="most of the bag that is played (default: %(default)g)"
    )
    p.add_argument("--deadline", type=seconds_of, default=240.0, help="seconds for everything (default: %(default)g)")
    p.add_argument("--out", type=picture_of, default=Path("out/demo.png"), help="the picture (default: %(default)s)")
    return p


@contextlib.contextmanager
def ended_in_time(deadline: float) -> Iterator[None]:
    """What runs inside gets a DemoError when the time is up, or when somebody asks the process to end.

    Args:
        deadline: In seconds.
    """

    def end(number: int, _: object) -> NoReturn:
        for other in handled:
            signal.signal(other, signal.SIG_IGN)  # what ends is not to be disturbed again
        late = number == signal.SIGALRM
        raise DemoError(f"not done after {deadline:g} s (--deadline)" if late else "stopped from outside")

    handled = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, end) for number in handled]
    signal.setitimer(signal.ITIMER_REAL, deadline)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: see the module."""
    args = parser().parse_args(argv)
    try:
        with ended_in_time(args.deadline):
            demo(args)
    except (DemoError, ProxqaError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
