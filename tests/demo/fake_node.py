"""The real node with an engine that computes nothing: an object's depth is its name's length / 20. Run as a program."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from proxqa_core.language.questions import understand
from proxqa_core.ranking import by_depth
from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer
from proxqa_ros.testing.engine import main_with_engine


class FakeEncodedImage:
    def depths(self, objects: Sequence[ObjectQuery]) -> tuple[ObjectDepth, ...]:
        return tuple(ObjectDepth(o.name, len(o.name) / 20, 0.05, 0.9, "fake", o.box) for o in objects)

    def ranking(self, objects: Sequence[ObjectQuery]) -> list[int]:
        return by_depth(self.depths(objects))

    def ask(self, question: str, objects: Sequence[ObjectQuery] = ()) -> ProximityAnswer:
        asked = understand(question, [o.name for o in objects])
        found = sorted(self.depths([ObjectQuery(n) for n in asked.names] or objects), key=lambda o: o.depth)
        return ProximityAnswer(asked.asked, asked.kind, f"The nearest is the {found[0].name}.", tuple(found))


class FakeEngine:
    model_name = "fake"

    def info(self) -> dict[str, str]:
        return {"model": self.model_name}

    def encode_image(self, image: np.ndarray) -> FakeEncodedImage:
        return FakeEncodedImage()


if __name__ == "__main__":
    sys.exit(main_with_engine(lambda *_: FakeEngine()))
