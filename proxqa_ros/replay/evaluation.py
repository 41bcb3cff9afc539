"""One evaluation over topics: a bag is played to the proximity node, what comes back is judged.

Promises: the node under test sees what a robot's would see (its own topics, `/clock`, QoS) and is asked for nothing
else; answers are matched by the image's stamp, also where the bag is played several times; `play` ends soon after it is
canceled; its own publishers are gone afterwards. Time is measured on a steady clock. Runs on the thread that calls it
while the node spins elsewhere. Knows nothing of parameters or actions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from proxqa_core.errors import BadObjectError, ProxqaError
from proxqa_core.evaluation.bag_html import render, stamps_to_show
from proxqa_core.evaluation.bag_runner import pictures
from proxqa_core.evaluation.html import Provenance
from proxqa_core.evaluation.replay_metrics import FrameMatcher, RunningMetrics, SentFrame
from proxqa_core.evaluation.sequence import Run, report
from proxqa_core.files import write_text
from proxqa_core.jsontext import to_json
from proxqa_core.rosbags.bag import Bag, Recorded
from proxqa_core.stamps import nanoseconds
from proxqa_core.types import ObjectQuery
from proxqa_ros.common.conversions import message_to_object
from proxqa_ros.common.executor import LOG_THROTTLE_S
from proxqa_ros.common.qos import RELIABLE
from proxqa_ros.distance.depth_image import TRANSPORTS as DEPTH_TRANSPORTS
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.replay.parameters import ReplayRequest
from proxqa_ros.replay.player import Channel, Player
from proxqa_ros.replay.source import ReplaySource
from proxqa_ros.srv import SetObjects

EVERY_ANSWER = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=1000, reliability=QoSReliabilityPolicy.RELIABLE)
POLL_PERIOD_S = 0.02
"""Seconds between two checks whether something has happened."""
SERVICE_TIMEOUT_S = 10.0
"""Seconds in which set_objects must be answered."""
CLOCK_TIMEOUT_S = 2.0
"""Longest wait for a subscriber of /clock, in seconds."""
DIAGNOSTICS_TIMEOUT_S = 2.5
"""Seconds in which the node's diagnostics come at least once."""
MATCHING_TIME_S = 0.3
"""Seconds for both ends of a topic to know of each other, where one does already."""
FRAME_COUNTS = ("received", "answered", "dropped", "bad", "failed")
"""The node's own counts of frames in its diagnostics."""


class NoNodeError(ProxqaError):
    """No proximity node that is active can be found."""


class RefusedError(ProxqaError):
    """The node refused the objects, or did not answer."""


class NoAnswerError(ProxqaError):
    """The bag was played, and no depths came."""


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is.

    Attributes:
        frames_done: Images played so far.
        frames_total: Images to play.
        loop: Which time the bag is played, from 1.
        figures: As `RunningMetrics.figures`.
    """

    frames_done: int
    frames_total: int
    loop: int
    figures: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        run: The frames, their answers and the truth.
        report: As `sequence.report`, with the node's own counts.
        canceled: Whether it ended early.
    """

    run: Run
    report: dict[str, Any]
    canceled: bool


class _Session:
    """What is known while a bag is played: frames, answers, the figures so far.

    Args:
        source: The bag.
        loops: So often it is played.
        progress: Called after every image.
    """

    def __init__(self, source: ReplaySource, loops: int, progress: Callable[[Progress], None]) -> None:
        self.source = source
        self.matcher = FrameMatcher()
        self.run = Run(
            source.bag.name,
            source.topic.name,
            source.truth.kind,
            source.truth.topic,
            in_source=source.topic.count,
            wanted=len(source.stamps) * loops,
            stamps=list(source.stamps),
        )
        self._metrics = RunningMetrics()
        self._indices = {stamp: i for i, stamp in enumerate(source.stamps)}
        self._progress = progress

    def begin(self, loop: int) -> None:
        """Begin to play the bag, for the first time with loop 0."""
        self.run.passes = loop + 1

    def announce(self, recorded: Recorded) -> None:
        """A message is about to go out."""
        if recorded.topic == self.source.topic.name:
            stamp = recorded.stamp
            self.matcher.add_frame(SentFrame(self._indices[stamp], stamp, self.run.passes - 1, time.perf_counter()))

    def was_sent(self, recorded: Recorded) -> None:
        """A message has gone out."""
        if recorded.topic == self.source.topic.name:
            self.run.sent += 1
            self.judge()
            self._report_progress()

    def judge(self) -> None:
        """Judge the answers received since the last call."""
        for received in self.matcher.take():
            self.run.answers.append(self.source.judged(received))
            self._metrics.add(self.run.answers[-1])
        self.run.truth_problem = self.source.truth.problem

    def end(self, bad: int) -> None:
        """All is played.

        Args:
            bad: Images that the node could not read, by its own count.
        """
        self.judge()
        self._report_progress()
        run, cut = self.run, self.source.cut * self.run.passes
        run.model = self.matcher.model
        run.sent += cut
        run.bad = cut + min(bad, run.sent - cut - len(run.answers))

    def _report_progress(self) -> None:
        run = self.run
        self._progress(Progress(run.sent, run.wanted, run.passes, self._metrics.figures()))


class Replay:
    """Evaluations on behalf of a node, one at a time. The node must spin while `play` runs.

    Args:
        node: The node, in an executor of several threads.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._matcher = FrameMatcher()
        self._counts: dict[str, int] = {}
        self._counts_at = 0.0
        group = MutuallyExclusiveCallbackGroup()
        self._depths = node.create_subscription(
            ObjectDepthArray, "object_depths", self._on_depths, EVERY_ANSWER, callback_group=group
        )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE, callback_group=group)
        self._set_objects: Any = node.create_client(SetObjects, "set_objects", callback_group=group)

    # -- what comes in -----------------------------------------------------------------------------------------------

    def _on_depths(self, message: ObjectDepthArray) -> None:
        now = time.perf_counter()
        try:
            objects = [message_to_object(o) for o in message.objects]
        except BadObjectError as error:
            self._node.get_logger().warning(f"object_depths not used: {error}", throttle_duration_sec=LOG_THROTTLE_S)
            return
        self._matcher.add_answer(nanoseconds(message.header.stamp), objects, message.model, now)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        names = self._nodes()
        for status in message.status:
            if status.name in names:
                values = {v.key: v.value for v in status.values}
                found = {name: values.get(f"frames_{name}", "") for name in FRAME_COUNTS}
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
        request: ReplayRequest,
        progress: Callable[[Progress], None] = lambda _: None,
        canceled: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Play the bag as requested, judge the answers and write the reports.

        Args:
            request: What to play and judge.
            progress: Called after every image.
            canceled: Asked at every step; true = stop, and the report is of the frames until then.

        Raises:
            BadBagError: The bag does not hold what is requested.
            NoReaderError: The bag cannot be read.
            NoNodeError: There is no active node.
            RefusedError: It does not take the objects.
            NoAnswerError: Nothing came.
            OSError: A report cannot be written.
        """
        with Bag(request.bag, asked_by="image_topic") as bag:
            source = ReplaySource.of(bag, request)
            session = _Session(source, request.loops, progress)
            player = Player(self._node, _channels(source))
            try:
                self._wait_for_node(request, source, player, canceled)
                if source.queries and not canceled():
                    self._set_objects_of_node(source.queries, canceled)
                counts = self._run(request, session, player, canceled)
            finally:
                player.close()
            run = session.run
            if not run.answers and not canceled():
                raise NoAnswerError(
                    f"none of {run.sent} images was answered on {self._depths.topic_name}; expected a node that is "
                    "enabled and looks for objects"
                )
            found = _report(run, counts, request)
            if request.json is not None:
                write_text(request.json, to_json(found) + "\n")
            if request.html is not None:
                shown = pictures(bag, source.topic, stamps_to_show(run))
                page = render(found, run, shown, Provenance.now(request.command()))
                write_text(request.html, page)
        return Outcome(run, found, canceled())

    def _run(
        self, request: ReplayRequest, session: _Session, player: Player, canceled: Callable[[], bool]
    ) -> dict[str, int]:
        """Play all loops; the node's own counts of frames meanwhile, and the number of answers to other images."""
        # 1. the counts so far, so that what is counted later is of this run
        diagnostics_timeout_s = min(request.settle_time, DIAGNOSTICS_TIMEOUT_S)
        self._await(lambda: bool(self._counts), diagnostics_timeout_s, canceled)
        before, self._matcher = dict(self._counts), session.matcher
        # 2. the loops, each with the answers that come late
        for loop in range(request.loops):
            session.begin(loop)
            for recorded in player.play(session.source.messages(), request.rate, canceled, session.announce):
                session.was_sent(recorded)
            self._await(session.matcher.last_is_answered, request.settle_time, canceled)
            session.judge()
            if canceled():
                break
        # 3. counts of now
        ended = time.perf_counter()
        self._await(lambda: self._counts_at > ended, diagnostics_timeout_s, canceled)
        counts = {name: max(0, n - before.get(name, 0)) for name, n in self._counts.items()}
        session.end(counts.get("bad", 0))
        return {f"frames_{name}": n for name, n in counts.items()} | {"stray_answers": session.matcher.unmatched}

    # -- the node under test -----------------------------------------------------------------------------------------

    def _wait_for_node(
        self, request: ReplayRequest, source: ReplaySource, player: Player, canceled: Callable[[], bool]
    ) -> None:
        """Until a node listens to the images and publishes depths. NoNodeError where none does in time."""

        def there() -> bool:
            return player.is_heard(source.topic.name) and self._depths.get_publisher_count() > 0

        if not self._await(there, request.start_timeout, canceled) and not canceled():
            raise NoNodeError(
                f"no active proximity node: after {request.start_timeout:g} s nobody subscribes to "
                f"{player.topic_name(source.topic.name)} and publishes {self._depths.topic_name}; start one (with "
                f"image_transport: {'compressed' if source.topic.compressed else 'raw'}) and activate it"
            )
        # a best-effort subscription that does not know the publisher yet misses the first image
        time.sleep(MATCHING_TIME_S)
        if source.depth is not None and not player.is_heard(source.depth.name):
            self._node.get_logger().warning(
                f"nobody subscribes to {player.topic_name(source.depth.name)}, the depth played is not used: start the "
                f"proximity node with depth_transport: {source.depth_transport}"
            )
        if not self._await(player.clock_is_heard, CLOCK_TIMEOUT_S, canceled) and not canceled():
            self._node.get_logger().warning("nobody subscribes to /clock: start the proximity node with use_sim_time")

    def _set_objects_of_node(self, queries: tuple[ObjectQuery, ...], canceled: Callable[[], bool]) -> None:
        """Have the node look for these objects."""
        names = [q.name for q in queries]
        if not self._await(self._set_objects.service_is_ready, SERVICE_TIMEOUT_S, canceled):
            raise RefusedError(f"the service {self._set_objects.srv_name} is not there; expected it of the node")
        future = self._set_objects.call_async(SetObjects.Request(objects=names))
        if not self._await(future.done, SERVICE_TIMEOUT_S, lambda: False):
            raise RefusedError(f"no answer from {self._set_objects.srv_name} within {SERVICE_TIMEOUT_S:g} s")
        response = future.result()
        if not response.success:
            raise RefusedError(f"the node refused the objects {', '.join(names)}: {response.message}")

    def _await(self, condition: Callable[[], bool], seconds: float, canceled: Callable[[], bool]) -> bool:
        """Whether the condition came true in time; gives up when canceled."""
        end = time.monotonic() + seconds
        while not (met := condition()) and time.monotonic() < end and not canceled():
            time.sleep(POLL_PERIOD_S)
        return met


def _channels(source: ReplaySource) -> dict[str, Channel]:
    """Where the node under test expects what is played, by the topic it was recorded on."""
    compressed = source.topic.compressed
    image = Channel("image/compressed", CompressedImage) if compressed else Channel("image", Image)
    if source.depth is None:
        return {source.topic.name: image}
    kind, topic = DEPTH_TRANSPORTS[source.depth_transport]
    return {source.topic.name: image, source.depth.name: Channel(topic, kind)}


def _report(run: Run, counts: dict[str, int], request: ReplayRequest) -> dict[str, Any]:
    """As `sequence.report`, with the node's own counts."""
    found = report(run) | {"node": counts, "rate": request.rate}
    found["notes"] |= {
        "node": "the node's own counts of frames while the bag was played; stray_answers: to other images",
        "latency_seconds": "from the image's publication to its depths' arrival, over DDS",
    }
    return found
