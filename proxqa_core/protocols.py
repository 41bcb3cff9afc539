"""What others need of an engine, as types: any object with these methods will do.

Promises: `proxqa_core.engine` has all of it; the ROS nodes, the evaluation and their tests rely on nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer

ObjectLike = ObjectQuery | str
"""An object to ask about: a bare name, or a query that may have a box."""


class EncodedImage(Protocol):
    """One encoded image, to be asked as often as wanted."""

    def depths(self, objects: Sequence[ObjectLike]) -> tuple[ObjectDepth, ...]:
        """Relative depth of every object, in the order asked."""
        ...

    def closer(self, a: ObjectLike, b: ObjectLike) -> ProximityAnswer:
        """Which of two objects is closer."""
        ...

    def ranking(self, objects: Sequence[ObjectLike]) -> list[int]:
        """Numbers of objects, the nearest first as `closer` tells of every two; what is not seen last."""
        ...

    def ask(self, question: str, objects: Sequence[ObjectLike] = ()) -> ProximityAnswer:
        """The answer to a question in words; `objects` are those known already."""
        ...


@runtime_checkable
class BatchedImage(Protocol):
    """An encoded image that perceives what several questions need in as few passes as that takes."""

    def prepare(self, questions: Sequence[tuple[str, Sequence[ObjectLike]]]) -> None:
        """Perceive what questions will need: (text, known objects) each, '' = the objects' depths."""
        ...


class Engine(Protocol):
    """A loaded model."""

    @property
    def model_name(self) -> str:
        """What to call the model in messages and reports."""
        ...

    def info(self) -> dict[str, Any]:
        """What is loaded."""
        ...

    def encode_image(self, image: NDArray[np.uint8]) -> EncodedImage:
        """Encode an image, uint8 [height, width, 3], RGB, once."""
        ...


class AdaptableEngine(Engine, Protocol):
    """A loaded model whose adapter can be exchanged."""

    def check_adapter(self, folder: str | os.PathLike[str]) -> str:
        """The name of the adapter in a folder, if this engine can take it."""
        ...

    def with_adapter(self, adapter: str | os.PathLike[str] | None) -> AdaptableEngine:
        """An engine with the same base and another adapter; this one is not changed."""
        ...
