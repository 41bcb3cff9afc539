"""Where in one image the objects are that are asked for by name.

Promises: a name means the same candidates however often it is asked about; colours ("the red chair") weigh them and
places ("the leftmost chair") pick one. A model without a grounding head has no candidates, and what is asked by name
stays without a box. Not safe for several threads by itself: `proxqa_core.engine` lets one in at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from proxqa_core.backends.protocols import LanguageModel
from proxqa_core.language import templates
from proxqa_core.language.phrases import are_synonyms
from proxqa_core.language.referring import Expression, read_expression
from proxqa_core.model.loading import LoadedModel
from proxqa_core.types import VISIBLE, Box, ObjectQuery
from proxqa_core.vision.colours import ImageColours, by_colour
from proxqa_core.vision.features import ImageFeatures
from proxqa_core.vision.grid import split_grid
from proxqa_core.vision.grounding_head import (
    Candidate,
    GroundingHead,
    PatchFeatures,
    choose,
    encode_patches,
    ground,
    largest_iou,
    largest_share,
    patch_probabilities,
    score_in_box,
)

MAX_INSTANCES = 12
"""Most things of one kind that are told apart."""
MAX_THINGS = 32
"""Most things in view that are told apart where nothing is named."""
ONE_THING_IOU = 0.5
"""Boxes of several names that overlap more are one thing, called by the likeliest of the names."""
ONE_KIND_SHARE = 0.5
"""So are boxes of one name, or of names that mean the same (person, pedestrian), that have more of the smaller one."""


class Grounding:
    """Finds what is named in one image.

    Args:
        model: What the image was encoded with.
        language_model: Gives the embeddings of the words of a name.
        image: The encoded image.
    """

    def __init__(self, model: LoadedModel, language_model: LanguageModel[Any], image: ImageFeatures):
        self._model = model
        self._language_model = language_model
        self._image = image
        self._candidates: dict[str, list[Candidate]] = {}

    def candidates(self, names: Sequence[str]) -> list[list[Candidate]]:
        """The things that each name may mean, without regard to colours and places.

        Args:
            names: Names without colours and places: 'chair'.

        Returns:
            For every name the candidates, the likeliest first, boxes in [0, 1] of the square input; empty lists where
            the model has no grounding head.
        """
        if self._model.grounding_head is None:
            return [[] for _ in names]
        new = [n for n in dict.fromkeys(names) if n not in self._candidates]
        if new:
            words = torch.stack([self._mean_embedding(n) for n in new])
            found = ground(self._head, self._patches, words)
            self._candidates |= dict(zip(new, found, strict=True))
        return [self._candidates[n] for n in names]

    def candidates_for(self, expression: Expression) -> list[Candidate]:
        """The things that an expression may mean but for its place, the likeliest first."""
        found = self.candidates([expression.name])[0]
        if not found or not expression.colours:
            return found
        return by_colour(found, self._colours, expression.colours, self._patch_probabilities(expression.name))

    def locate_all(self, queries: Sequence[ObjectQuery]) -> list[ObjectQuery]:
        """`locate` of several, their names grounded together."""
        if self._model.grounding_head is not None:
            self.candidates([read_expression(q.name).name for q in queries if q.box is None])
        return [self.locate(q) for q in queries]

    def locate(self, query: ObjectQuery) -> ObjectQuery:
        """A query with the box of what is meant, in pixels: its own, or the one that its name was found in."""
        if query.box is not None or self._model.grounding_head is None:
            return query
        expression = read_expression(query.name)
        box = choose(self.candidates_for(expression), expression.place)
        return ObjectQuery(query.name, self._model.preprocessing.in_pixels(box, self._image.width, self._image.height))

    def instances(self, name: str) -> list[ObjectQuery]:
        """The things in view that a name may mean, the likeliest first; none where it has a place or without head."""
        expression = read_expression(name)
        if self._model.grounding_head is None or expression.place is not None:
            return []
        size = self._image.width, self._image.height
        seen = [c for c in self.candidates_for(expression) if c.score >= VISIBLE][:MAX_INSTANCES]
        return [ObjectQuery(name, self._model.preprocessing.in_pixels(c.box, *size)) for c in seen]

    def things(self, names: Sequence[str]) -> list[ObjectQuery]:
        """What in view some names may mean, each thing once: by the likeliest name for it, with its box.

        Args:
            names: Any number, without colours and places.

        Returns:
            The likeliest first, at most MAX_THINGS; none without a grounding head.
        """
        if self._model.grounding_head is None or not names:
            return []
        # 1. All names against all patches at once, [side², n]; boxes only of the few that are somewhere.
        likely = patch_probabilities(self._head, self._patches, torch.stack([self._mean_embedding(n) for n in names]))
        able = [n for n, p in zip(names, likely.amax(0).tolist(), strict=True) if p >= VISIBLE]
        found = [(c, n) for n, of in zip(able, self.candidates(able), strict=True) for c in of if c.score >= VISIBLE]
        # 2. The likeliest name of each thing.
        kept = each_once(found)[:MAX_THINGS]
        size = self._image.width, self._image.height
        return [ObjectQuery(n, self._model.preprocessing.in_pixels(c.box, *size)) for c, n in kept]

    def score(self, query: ObjectQuery) -> float:
        """Probability in [0, 1], by the grounding head alone, that an object is in view, or in its box.

        Only of a model with a grounding head.
        """
        expression = read_expression(query.name)
        if query.box is None:
            return self.candidates_for(expression)[0].score
        box = Box(*self._model.preprocessing.normalised(query.box, self._image.width, self._image.height))
        score = score_in_box(self._head, self._patches, self._mean_embedding(expression.name), box)
        if expression.colours:
            score *= self._colours.fit(expression.colours, box, self._patch_probabilities(expression.name))
        return score

    @property
    def _head(self) -> GroundingHead:
        head = self._model.grounding_head
        assert head is not None  # whoever comes here has asked
        return head

    @cached_property
    def _patches(self) -> PatchFeatures:
        """What the grounding head makes of the image."""
        grid = split_grid(self._image.features[None], self._model.spatial_merge_size)[0]
        return encode_patches(self._head, grid, self._model.dtype)

    @cached_property
    def _colours(self) -> ImageColours:
        """The colours in the image, made when the first is asked for."""
        return ImageColours.of(self._image.patch_colours)

    def _patch_probabilities(self, name: str) -> torch.Tensor:
        """Probability that each patch shows what a name means, [side²], on the CPU."""
        return patch_probabilities(self._head, self._patches, self._mean_embedding(name)[None])[:, 0].cpu()

    def _mean_embedding(self, name: str) -> torch.Tensor:
        """Mean word embedding of a name, [words]."""
        ids = self._model.prompter.plain_ids(" " + templates.plain(name)) or [0]
        return self._language_model.embed(ids).float().mean(0)


def each_once(found: Sequence[tuple[Candidate, str]]) -> list[tuple[Candidate, str]]:
    """Candidates of several names, each thing once: by the likeliest of its names.

    Args:
        found: Candidates with the names that they are of.

    Returns:
        Those that are kept, the likeliest first.
    """
    kept: list[tuple[Candidate, str]] = []
    for candidate, name in sorted(found, key=lambda f: -f[0].score):
        alike = [c.box for c, n in kept if n == name or are_synonyms(n.casefold(), name.casefold())]
        if (
            largest_iou(candidate.box, [c.box for c, _ in kept]) <= ONE_THING_IOU
            and largest_share(candidate.box, alike) <= ONE_KIND_SHARE
        ):
            kept.append((candidate, name))
    return kept
