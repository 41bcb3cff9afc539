"""The bag of a replay: what is played of it, and the truth that its answers are judged by.

Knows nothing of ROS topics but their recorded names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from proxqa_core.errors import BadImageError
from proxqa_core.evaluation.bag_runner import Selection
from proxqa_core.evaluation.bag_truth import LabelTruth, Truth, queries_of, truth_of
from proxqa_core.evaluation.replay_metrics import ReceivedAnswer
from proxqa_core.evaluation.sequence import Answer
from proxqa_core.rosbags.bag import BadBagError, Bag, Recorded, Topic
from proxqa_core.rosbags.image_messages import image_to_rgb
from proxqa_core.types import ObjectQuery
from proxqa_ros.replay.parameters import ReplayRequest

MIN_MESSAGE_BYTES = 12
"""Bytes of the shortest message that has a stamp."""


@dataclass(frozen=True)
class ReplaySource:
    """The bag that is played, and what is known of it.

    Attributes:
        bag: The bag, open.
        topic: Of the images.
        depth: Of depth images that are played too; None = none are.
        depth_transport: How those are sent, as `Bag.depth_transport`; '' = none are.
        truth: What the answers are judged by.
        queries: The objects to ask for; () = those that the node looks for anyway.
        selection: The part of the bag that is played.
        stamps: Of the images in their order, in nanoseconds.
        cut: Number of images without a whole header, which cannot be played.
        width: Of the images, in pixels.
        height: Of the images, in pixels.
    """

    bag: Bag
    topic: Topic
    depth: Topic | None
    depth_transport: str
    truth: Truth
    queries: tuple[ObjectQuery, ...]
    selection: Selection
    stamps: tuple[int, ...]
    cut: int
    width: int
    height: int

    @classmethod
    def of(cls, bag: Bag, request: ReplayRequest) -> ReplaySource:
        """Look through a bag.

        Args:
            bag: The bag, open.
            request: What is to be played and judged.

        Raises:
            BadBagError: The bag does not hold what is requested.
        """
        topic = bag.image_topic(request.image_topic)
        depth = bag.depth_topic(request.play_depth_topic) if request.play_depth_topic else None
        truth = truth_of(bag, request.truth_topic, request.depth_topic, request.tolerance, topic, depth)
        named = isinstance(truth, LabelTruth) or request.objects
        queries = tuple(queries_of(bag, truth, request.objects)) if named else ()
        selection = Selection(seconds=request.seconds)
        stamps, cut, (height, width) = _look_through(bag, topic, selection)
        transport = "" if depth is None else bag.depth_transport(depth)
        return cls(bag, topic, depth, transport, truth, queries, selection, tuple(stamps), cut, width, height)

    def messages(self) -> Iterator[Recorded]:
        """What is played in one loop, in order: from the first image on."""
        start = None
        for recorded in self.bag.messages(*(t for t in (self.topic, self.depth) if t is not None)):
            if len(recorded.raw) < MIN_MESSAGE_BYTES or (start is None and recorded.topic != self.topic.name):
                continue
            start = recorded.time if start is None else start
            if recorded.time - start > self.selection.seconds * 1e9:
                return
            yield recorded

    def judged(self, received: ReceivedAnswer) -> Answer:
        """An answer beside its truth.

        Args:
            received: The answer, matched to its frame.
        """
        sent = received.frame
        # by name is how the node was asked, so a region in its answer is where it looked
        objects = tuple(replace(o, box=None, found_at=o.box) for o in received.objects)
        return Answer(
            sent.image,
            sent.stamp,
            self.height,
            objects,
            self.truth.of(sent.stamp, self.width, self.height, objects),
            received.latency,
            received.latency,
            sent.pass_number,
        )


def _look_through(bag: Bag, topic: Topic, selection: Selection) -> tuple[list[int], int, tuple[int, int]]:
    """The images' stamps, how many are cut short, and the height and width of the first that can be read."""
    stamps: list[int] = []
    cut, size = 0, None
    for recorded in selection.of(bag.messages(topic)):
        try:
            stamps.append(recorded.stamp)
            if size is None:
                size = image_to_rgb(bag.decode(recorded)).shape[:2]
        except BadImageError:
            cut += len(recorded.raw) < MIN_MESSAGE_BYTES
    if size is None:
        raise BadBagError(f"none of {len(stamps) + cut} images on {topic.name} can be read")
    if len(set(stamps)) < len(stamps):
        raise BadBagError(
            f"{len(stamps)} images on {topic.name} have {len(set(stamps))} different stamps; expected one each, "
            "since answers are matched by stamp"
        )
    return stamps, cut, (size[0], size[1])
