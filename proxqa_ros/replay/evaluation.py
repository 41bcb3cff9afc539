"""One evaluation over topics: a bag is played to the proximity node, what comes back is judged.

Promises: the node under test sees what a robot's would see (its own topics, `/clock`, QoS) and is asked for nothing
else; answers are matched by the image's stamp, also where the bag is played several times; `play` ends soon after it is
canceled; its own publishers are gone afterwards. Time is measured on a steady clock. Runs on the thread that calls it
while the node spins elsewhere. Knows nothing of parameters or actions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from proxqa_core.errors import BadImageError, BadObjectError, ProxqaError
from proxqa_core.evaluation.bag_html import render, stamps_to_show
from proxqa_core.evaluation.bag_runner import Selection, pictures
from proxqa_core.evaluation.bag_truth import LabelTruth, Truth, queries_of, truth_of
from proxqa_core.evaluation.replay_metrics import FrameMatcher, ReceivedAnswer, RunningMetrics, SentFrame
from proxqa_core.evaluation.sequence import Answer, Run, report
from proxqa_core.jsontext import to_json
from proxqa_core.rosbags.bag import RAW, BadBagError, Bag, Recorded, Topic
from proxqa_core.rosbags.image_messages import image_to_rgb
from proxqa_core.stamps import nanoseconds
from proxqa_core.types import ObjectQuery
from proxqa_ros.common.conversions import message_to_object
from proxqa_ros.common.qos import RELIABLE
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.replay.parameters import ReplayRequest
from proxqa_ros.replay.player import Channel, Player
from proxqa_ros.srv import SetObjects

EVERY_ANSWER = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=1000, reliability=QoSReliabilityPolicy.RELIABLE)
STEP = 0.02
"""Seconds between two looks at whether something has happened."""
SERVICE_TIMEOUT = 10.0
"""Seconds in which set_objects must be answered."""
TWO_TICKS = 2.5
"""Seconds in which the node's diagnostics come at least once."""
MATCHED = 0.3
"""Seconds for both ends of a topic to know of each other, where one does already."""
HEADER = 12
"""Bytes of the shortest message that has a stamp."""
COUNTS = ("received", "answered", "dropped", "bad", "failed")
"""The node's own counts of frames in its diagnostics."""


class NoNodeError(ProxqaError):
    """No proximity node that is active can be found."""


class RefusedError(ProxqaError):
    """The node refused the objects, or did not answer."""


class NoAnswerError(ProxqaError):
    """The bag was played, and no depths came."""


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is. loop: from 1. figures: as `RunningMetrics.figures`."""

    frames_done: int
    frames_total: int
    loop: int
    figures: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found. report: as `sequence.report`, with the node's own counts."""

    run: Run
    report: dict[str, Any]
    canceled: bool


@dataclass(frozen=True)
class _Source:
    """The bag that is played, and what is known of it.

    taught: depth images that are played too. stamps: of the images, in order. cut: images without a whole header, which
    cannot be played. width, height: of the images, pixels.
    """

    bag: Bag
    topic: Topic
    taught: Topic | None
    truth: Truth
    queries: tuple[ObjectQuery, ...]
    selection: Selection
    stamps: tuple[int, ...]
    cut: int
    width: int
    height: int

    @classmethod
    def of(cls, bag: Bag, order: ReplayRequest) -> _Source:
        """Raises BadBagError where the bag does not hold what was ordered."""
        topic = bag.image_topic(order.image_topic)
        taught = bag.depth_topic(order.play_depth_topic) if order.play_depth_topic else None
        if taught is not None and taught.compressed:
            raise BadBagError(f"{taught.name} is compressed; the node learns metres from {RAW} only")
        truth = truth_of(bag, order.truth_topic, order.depth_topic, order.tolerance)
        named = isinstance(truth, LabelTruth) or order.objects
        queries = tuple(queries_of(bag, truth, order.objects)) if named else ()
        selection = Selection(seconds=order.seconds)
        stamps, cut, size = [], 0, None
        for recorded in selection.of(bag.messages(topic)):
            try:
                stamps.append(recorded.stamp)
                if size is None:
                    size = image_to_rgb(bag.decode(recorded)).shape[:2]
            except BadImageError:
                cut += len(recorded.raw) < HEADER
        if size is None:
            raise BadBagError(f"none of {len(stamps) + cut} images on {topic.name} can be read")
        if len(set(stamps)) < len(stamps):
            raise BadBagError(
                f"{len(stamps)} images on {topic.name} have {len(set(stamps))} different stamps; expected one each, "
                "since answers are matched by stamp"
            )
        return cls(bag, topic, taught, truth, queries, selection, tuple(stamps), cut, size[1], size[0])

    def messages(self) -> Iterator[Recorded]:
        """What is played in one loop, in order: from the first image on."""
        start = None
        for recorded in self.bag.messages(*(t for t in (self.topic, self.taught) if t is not None)):
            if len(recorded.raw) < HEADER or (start is None and recorded.topic != self.topic.name):
                continue
            start = recorded.time if start is None else start
            if recorded.time - start > self.selection.seconds * 1e9:
                return
            yield recorded

    def judged(self, heard: ReceivedAnswer) -> Answer:
        """An answer beside its truth."""
        showing = heard.frame
        # by name is how the node was asked, so a region in its answer is where it looked
        objects = tuple(replace(o, box=None, found_at=o.box) for o in heard.objects)
        return Answer(
            showing.image,
            showing.stamp,
            self.height,
            objects,
            self.truth.of(showing.stamp, self.width, self.height, objects),
            heard.latency,
            heard.latency,
            showing.pass_number,
        )


class Replay:
    """Evaluations on behalf of a node, one at a time. The node must spin while `play` runs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._matching = FrameMatcher()
        self._counts: dict[str, int] = {}
        self._counts_at = 0.0
        group = MutuallyExclusiveCallbackGroup()
        self._depths = node.create_subscription(
            ObjectDepthArray, "object_depths", self._on_depths, EVERY_ANSWER, callback_group=group
        )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE, callback_group=group)
        self._set_objects = node.create_client(SetObjects, "set_objects", callback_group=group)

    # -- what comes in -----------------------------------------------------------------------------------------------

    def _on_depths(self, message: ObjectDepthArray) -> None:
        now = time.perf_counter()
        try:
            objects = [message_to_object(o) for o in message.objects]
        except BadObjectError as error:
            self._node.get_logger().warning(f"object_depths not used: {error}", throttle_duration_sec=5.0)
            return
        self._matching.add_answer(nanoseconds(message.header.stamp), objects, message.model, now)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        names = self._nodes()
        for status in message.status:
            if status.name in names:
                values = {v.key: v.value for v in status.values}
                found = {name: values.get(f"frames_{name}", "") for name in COUNTS}
                if all(v.isdigit() for v in found.values()):
                    self._counts = {name: int(v) for name, v in found.items()}
                    self._counts_at = time.perf_counter()

    def _nodes(self) -> set[str]:
        """Names in diagnostics of the nodes that publish what is evaluated."""
        ends = self._node.get_publishers_info_by_topic(self._depths.topic_name)
        return {f"{end.node_namespace.strip('/')}/{end.node_name}".strip("/") + ": proximity" for end in ends}

    # -- playing -----------------------------------------------------------------------------------------------------

    def play(
        self,
        order: ReplayRequest,
        progress: Callable[[Progress], None] = lambda _: None,
        canceled: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Play the bag as ordered, judge the answers and write the reports.

        progress: called after every image. canceled: asked at every step; true = stop, the report is of the frames
        until then. Raises BadBagError and NoReaderError where the bag is at fault, NoNodeError where there is no active
        node, RefusedError where it does not take the objects, NoAnswerError where nothing came, OSError where a report
        cannot be written.
        """
        with Bag(order.bag, asked_by="image_topic") as bag:
            source = _Source.of(bag, order)
            channels = {source.topic.name: _channel(source.topic)}
            if source.taught is not None:
                channels[source.taught.name] = Channel("depth", Image)
            player = Player(self._node, channels)
            try:
                self._wait_for_node(order, source, player, canceled)
                if source.queries and not canceled():
                    self._tell_objects(source.queries, canceled)
                run, counts = self._run(order, source, player, progress, canceled)
            finally:
                player.close()
            if not run.answers and not canceled():
                raise NoAnswerError(
                    f"none of {run.sent} images was answered on {self._depths.topic_name}; expected a node that is "
                    "enabled and looks for objects"
                )
            found = report(run) | {"node": counts, "rate": order.rate}
            found["notes"] |= {
                "node": "the node's own counts of frames while the bag was played; stray_answers: to other images",
                "latency_seconds": "from the image's publication to its depths' arrival, over DDS",
            }
            if order.json is not None:
                order.json.write_text(to_json(found) + "\n", encoding="utf-8")
            if order.html is not None:
                page = render(found, run, pictures(bag, source.topic, stamps_to_show(run)))
                order.html.write_text(page, encoding="utf-8")
        return Outcome(run, found, canceled())

    def _run(
        self,
        order: ReplayRequest,
        source: _Source,
        player: Player,
        progress: Callable[[Progress], None],
        canceled: Callable[[], bool],
    ) -> tuple[Run, dict[str, int]]:
        """What came back, and the node's counts of it."""
        run = Run(
            source.bag.path.resolve().name,
            source.topic.name,
            source.truth.kind,
            source.truth.topic,
            in_source=source.topic.count,
            wanted=len(source.stamps) * order.loops,
            stamps=list(source.stamps),
        )
        self._await(lambda: bool(self._counts), min(order.settle_time, TWO_TICKS), canceled)
        before, self._matching = dict(self._counts), FrameMatcher()
        matching, running = self._matching, RunningMetrics()
        places = {stamp: i for i, stamp in enumerate(source.stamps)}

        def judge() -> None:
            for heard in matching.take():
                run.answers.append(source.judged(heard))
                running.add(run.answers[-1])
            run.truth_problem = source.truth.problem

        for loop in range(order.loops):
            run.passes = loop + 1

            def show(recorded: Recorded, loop: int = loop) -> None:
                if recorded.topic == source.topic.name:
                    stamp = recorded.stamp
                    matching.add_frame(SentFrame(places[stamp], stamp, loop, time.perf_counter()))

            for recorded in player.play(source.messages(), order.rate, canceled, show):
                if recorded.topic == source.topic.name:
                    run.sent += 1
                    judge()
                    progress(Progress(run.sent, run.wanted, run.passes, running.figures()))
            self._await(matching.last_is_answered, order.settle_time, canceled)
            judge()
            if canceled():
                break
        ended = time.perf_counter()
        self._await(lambda: self._counts_at > ended, min(order.settle_time, TWO_TICKS), canceled)
        judge()
        progress(Progress(run.sent, run.wanted, run.passes, running.figures()))
        counts = {name: max(0, n - before.get(name, 0)) for name, n in self._counts.items()}
        run.model = matching.model
        cut = source.cut * run.passes
        run.sent += cut
        run.bad = cut + min(counts.get("bad", 0), run.sent - cut - len(run.answers))
        return run, {f"frames_{name}": n for name, n in counts.items()} | {"stray_answers": matching.unmatched}

    # -- the node under test -----------------------------------------------------------------------------------------

    def _wait_for_node(
        self, order: ReplayRequest, source: _Source, player: Player, canceled: Callable[[], bool]
    ) -> None:
        """Until a node listens to the images and publishes depths. NoNodeError where none does in time."""

        def there() -> bool:
            return player.is_heard(source.topic.name) and self._depths.get_publisher_count() > 0

        if not self._await(there, order.start_timeout, canceled) and not canceled():
            raise NoNodeError(
                f"no active proximity node: after {order.start_timeout:g} s nobody listens to "
                f"{player.topic_name(source.topic.name)} and publishes {self._depths.topic_name}; start one (with "
                f"image_transport: {'compressed' if source.topic.compressed else 'raw'}) and activate it"
            )
        time.sleep(MATCHED)  # a best-effort subscription that does not know the publisher yet misses the first image
        if not self._await(player.clock_is_heard, 2.0, canceled) and not canceled():
            self._node.get_logger().warning("nobody goes by /clock: start the proximity node with use_sim_time")

    def _tell_objects(self, queries: tuple[ObjectQuery, ...], canceled: Callable[[], bool]) -> None:
        """Have the node look for these objects."""
        names = [q.name for q in queries]
        if not self._await(self._set_objects.service_is_ready, SERVICE_TIMEOUT, canceled):
            raise RefusedError(f"the service {self._set_objects.srv_name} is not there; expected it of the node")
        future = self._set_objects.call_async(SetObjects.Request(objects=names))
        if not self._await(future.done, SERVICE_TIMEOUT, lambda: False):
            raise RefusedError(f"no answer from {self._set_objects.srv_name} within {SERVICE_TIMEOUT:g} s")
        response = future.result()
        if not response.success:
            raise RefusedError(f"the node refused the objects {', '.join(names)}: {response.message}")

    def _await(self, condition: Callable[[], bool], seconds: float, canceled: Callable[[], bool]) -> bool:
        """Whether the condition came true in time; gives up when canceled."""
        end = time.monotonic() + seconds
        while not (met := condition()) and time.monotonic() < end and not canceled():
            time.sleep(STEP)
        return met


def _channel(topic: Topic) -> Channel:
    """Where the node under test expects images."""
    return Channel("image/compressed", CompressedImage) if topic.compressed else Channel("image", Image)
