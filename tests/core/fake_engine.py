"""An engine that knows depths by heart, for tests of what lies around an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxqa_core.language.sentences import say_closer, say_depths
from proxqa_core.ranking import by_depth
from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer, QuestionKind, check_image


class FakeEncodedImage:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine

    def depths(self, objects: Sequence[ObjectQuery | str]) -> tuple[ObjectDepth, ...]:
        self.engine.calls.append(("depths", len(objects)))
        return tuple(self._depth(o if isinstance(o, ObjectQuery) else ObjectQuery(o)) for o in objects)

    def ranking(self, objects: Sequence[ObjectQuery | str]) -> list[int]:
        return by_depth([self._depth(o if isinstance(o, ObjectQuery) else ObjectQuery(o)) for o in objects])

    def _depth(self, query: ObjectQuery) -> ObjectDepth:
        depth = self.engine.known.get(query.name)
        if depth is None:
            return ObjectDepth(query.name, 0.5, 0.3, 0.1, "not visible", query.box)
        return ObjectDepth(query.name, depth, 0.05, 0.9, f"{depth:.2f}", query.box)

    def closer(self, a: ObjectQuery, b: ObjectQuery) -> ProximityAnswer:
        near, far = sorted((self._depth(a), self._depth(b)), key=lambda o: o.depth)
        text = say_closer(near, far, 0.9)
        return ProximityAnswer("", QuestionKind.CLOSER, text, (near, far), near.name, far.name, 0.9)

    def ask(self, question: str, objects: Sequence[ObjectQuery] = ()) -> ProximityAnswer:
        found = self.depths(objects or [ObjectQuery(n) for n in self.engine.known])
        return ProximityAnswer(question, QuestionKind.SORT, say_depths(sorted(found, key=lambda o: o.depth)), found)


class BatchEncodedImage(FakeEncodedImage):
    def closer_many(self, pairs: Sequence[tuple[ObjectQuery, ObjectQuery]]) -> list[ProximityAnswer]:
        self.engine.calls.append(("closer_many", len(pairs)))
        return [self.closer(a, b) for a, b in pairs]


class DirectEncodedImage(BatchEncodedImage):
    """Asked directly, it calls whatever is named first the closer one."""

    def closer_many(
        self, pairs: Sequence[tuple[ObjectQuery, ObjectQuery]], direct: bool = False
    ) -> list[ProximityAnswer]:
        if not direct:
            return super().closer_many(pairs)
        self.engine.calls.append(("directly", len(pairs)))
        found = [(self._depth(a), self._depth(b)) for a, b in pairs]
        return [ProximityAnswer("", QuestionKind.CLOSER, "", (a, b), a.name, b.name, 0.6) for a, b in found]


class FakeEngine:
    model_name = "fake <model>"

    def __init__(self, known: Mapping[str, float], view: type[FakeEncodedImage] = FakeEncodedImage) -> None:
        self.known = dict(known)
        self.view = view
        self.calls: list[tuple[str, int]] = []

    def encode_image(self, image: NDArray[np.uint8]) -> FakeEncodedImage:
        check_image(image)
        return self.view(self)

    def info(self) -> dict[str, Any]:
        return {"model": self.model_name, "scale": float("nan"), "training": {"steps": 3}, "adapter": None}
