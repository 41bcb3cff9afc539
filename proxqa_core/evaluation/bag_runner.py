"""Ask a model about a bag's images, one after the other, without ROS.

Promises: the same bag, model and choices give the same answers; the model is asked through the engine's public API
only, all objects of an image in one call, all its pairs in another; images that cannot be read are counted and
skipped. Knows nothing of how figures are computed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.errors import BadImageError
from proxqa_core.evaluation.bag_truth import Truth
from proxqa_core.evaluation.runner import PROMPTS, Engine, closer_answers, confidence_of, depths_of, says_first
from proxqa_core.evaluation.sequence import LABELS, Answer, Compared, Run, true_pairs
from proxqa_core.rosbags.bag import BadBagError, Bag, Recorded, Topic
from proxqa_core.rosbags.image_messages import image_to_rgb
from proxqa_core.stamps import NS_PER_S, is_too_soon
from proxqa_core.types import ObjectQuery


@dataclass(frozen=True)
class Selection:
    """Which images of a topic are used.

    Attributes:
        every_images: Only each Nth image, from 1.
        rate: Largest mean number of images per second of the recording, in Hz; inf = no limit.
        limit: Largest number of images; None = no limit.
        seconds: Only the first seconds of the topic; inf = all of it.
        every_seconds: Smallest distance of two images by their stamps, in seconds; 0 = no limit.

    Raises:
        ValueError: A value is outside its range.
    """

    every_images: int = 1
    rate: float = math.inf
    limit: int | None = None
    seconds: float = math.inf
    every_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.every_images < 1:
            raise ValueError(f"every_images is {self.every_images}; expected at least 1")
        if not self.rate > 0:
            raise ValueError(f"rate is {self.rate}; expected more than 0 Hz")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; expected at least 1")
        if not self.seconds > 0:
            raise ValueError(f"seconds is {self.seconds}; expected more than 0")
        if not 0 <= self.every_seconds < math.inf:
            raise ValueError(f"every_seconds is {self.every_seconds}; expected seconds from 0")

    def of(self, messages: Iterable[Recorded]) -> Iterator[Recorded]:
        """The chosen ones of a topic's messages, in their order."""
        start = due = last = None
        count = 0
        for i, recorded in enumerate(messages):
            start = recorded.time if start is None else start
            if (self.limit is not None and count >= self.limit) or recorded.time - start > self.seconds * NS_PER_S:
                return
            if i % self.every_images or (due is not None and recorded.time < due):
                continue
            stamp = recorded.stamp_or_time if self.every_seconds else 0
            if is_too_soon(stamp, last, self.every_seconds):
                continue
            if math.isfinite(self.rate):
                # from the time due, not from this message: else a camera's own rhythm would make it rarer than asked
                period = NS_PER_S / self.rate
                late = recorded.time - (recorded.time if due is None else due)
                due = recorded.time - (late if late < period else 0) + period
            count += 1
            last = stamp
            yield recorded


@dataclass(frozen=True)
class _Moment:
    """What identifies an image: its stamp and when it was recorded, in ns, and its frame."""

    stamp: int
    time: int
    frame_id: str


def evaluate_bag(
    engine: Engine,
    bag: Bag,
    topic: Topic,
    truth: Truth,
    queries: Sequence[ObjectQuery],
    selection: Selection | None = None,
    prompt: str = "name",
    on_progress: Callable[[Run], None] | None = None,
) -> Run:
    """All answers of a model on a bag's images.

    Args:
        engine: The engine to ask.
        bag: The open bag.
        topic: Of the images.
        truth: To judge the answers by.
        queries: The objects to ask about.
        selection: Which images are used, None = all.
        prompt: "name" asks by name; "box" asks by name and labelled box, so only for what is labelled in the image.
        on_progress: Called after every image.

    Raises:
        ValueError: `prompt` is another one.
        BadBagError: No image can be read, or boxes are wanted and there are no labels.
    """
    if prompt not in PROMPTS:
        raise ValueError(f"prompt is {prompt!r}; expected one of {', '.join(PROMPTS)}")
    if prompt == "box" and truth.kind != LABELS:
        raise BadBagError("prompt 'box' needs a topic of true depths with regions; expected one in the bag")
    selection = selection or Selection()
    run = Run(
        bag.name,
        topic.name,
        truth.kind,
        truth.topic,
        prompt=prompt,
        model=engine.model_name,
        in_source=topic.count,
        wanted=sum(1 for _ in selection.of(bag.messages(topic))),
    )
    for recorded in selection.of(bag.messages(topic)):
        run.sent += 1
        try:
            stamp = bag.moment(recorded, topic)
            message = bag.decode(recorded)
            image = image_to_rgb(message)
        except BadImageError as error:
            run.add_bad(str(error))
        else:
            moment = _Moment(stamp, recorded.time, str(message.header.frame_id))
            asked = _asked(queries, truth, moment, prompt)
            if asked or prompt == "name":
                run.stamps.append(stamp)
                run.answers.append(_ask(engine, image, moment, asked, truth, len(run.stamps) - 1))
        run.truth_problem = truth.problem
        if on_progress is not None:
            on_progress(run)
    if run.bad == run.sent:
        reason = f", the first: {run.bad_reasons[0]}" if run.bad_reasons else ""
        raise BadBagError(f"none of {run.sent} images on {topic.name} can be read{reason}")
    if not run.answers:
        raise BadBagError(f"no image on {topic.name} has a labelled object with a region; ask by name instead")
    return run


def _asked(queries: Sequence[ObjectQuery], truth: Truth, moment: _Moment, prompt: str) -> list[ObjectQuery]:
    if prompt == "name":
        return list(queries)
    labels = truth.labels(moment.stamp, moment.time)
    return [ObjectQuery(q.name, o.box) for q in queries if (o := labels.get(q.name)) is not None and o.box is not None]


def _ask(
    engine: Engine, image: NDArray[np.uint8], moment: _Moment, asked: Sequence[ObjectQuery], truth: Truth, index: int
) -> Answer:
    height, width = image.shape[:2]
    started = time.perf_counter()
    view = engine.encode_image(image)
    found = tuple(depths_of(view, asked))
    latency = time.perf_counter() - started
    true = truth.of(moment.stamp, width, height, found, moment.time, moment.frame_id)
    wanted = list(true_pairs(true))
    started = time.perf_counter()
    answers = closer_answers(view, [(asked[i], asked[j]) for i, j in wanted])
    seconds = latency + time.perf_counter() - started
    compared = tuple(
        Compared(i, j, says_first(answer, asked[i], asked[j]), confidence_of(answer))
        for (i, j), answer in zip(wanted, answers, strict=True)
    )
    return Answer(index, moment.stamp, height, found, true, latency, seconds, compared=compared)


def pictures(bag: Bag, topic: Topic, stamps: Iterable[int]) -> dict[int, NDArray[Any]]:
    """The images of these stamps, uint8 RGB, as far as they can be read; of several with one stamp the last."""
    wanted = set(stamps)
    found: dict[int, NDArray[Any]] = {}
    for recorded in bag.messages(topic):
        try:
            if (stamp := bag.moment(recorded, topic)) in wanted:
                found[stamp] = image_to_rgb(bag.decode(recorded))
        except BadImageError:
            continue
    return found
