"""What is run through the language model about one image.

Promises: the image is read once, as a prefix, with the first question; all objects of a request are branches of one
batch, all choices branches of another. What comes out is raw: `proxqa_core.llm.readout` makes numbers of it. An object
whose box is known is asked about with its box. Not safe for several threads by itself: `proxqa_core.engine` lets one in
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.protocols import LanguageModel
from proxqa_core.language import templates
from proxqa_core.llm.branching import Branch
from proxqa_core.llm.prompts import Suffix
from proxqa_core.llm.readout import DigitTree
from proxqa_core.model.loading import LoadedModel
from proxqa_core.types import Box, ObjectQuery
from proxqa_core.vision.features import ImageFeatures
from proxqa_core.vision.regions import region_tokens

MAX_NEW_TOKENS = 64
"""Longest free answer, in tokens."""


class Inference:
    """Runs prompts about one image.

    Args:
        model: What the image was encoded with: its prompter and its geometry are used here, its networks are not.
        language_model: Runs the prompts.
        image: The encoded image.
    """

    def __init__(self, model: LoadedModel, language_model: LanguageModel[Any], image: ImageFeatures):
        self._model = model
        self._prompter = model.prompter
        self._language_model = language_model
        self._image = image
        before, after = (language_model.embed(ids) for ids in (self._prompter.before_image, self._prompter.after_image))
        self._prefix_embeddings = torch.cat([before, language_model.project(image.features), after])

    @cached_property
    def _prefix(self) -> Any:
        """The language model's handle of the image, made with the first question."""
        return self._language_model.run_prefix(self._prefix_embeddings)

    def digit_trees(self, queries: Sequence[ObjectQuery]) -> list[DigitTree]:
        """Stage 1, perceive: the raw logits of the relative depth of every object.

        Args:
            queries: Objects, with their boxes where those are known.

        Returns:
            One digit tree for every query.
        """
        prompter, lm = self._prompter, self._language_model
        # 1. One branch per object: the question and "0.", then the ten digits as tails [10, hidden] side by side.
        lead, digits = prompter.depth_lead, lm.embed(prompter.digits)
        branches = []
        for query in queries:
            mention, boxes = self._mention(query)
            question = prompter.question(templates.perceive_question(mention), boxes)
            branches.append(Branch(self._embed(Suffix((*question.ids, *lead), question.boxes)), digits))
        # 2. hidden [tokens + 10, hidden] of each: where the lead starts, after the lead, and after each first digit.
        decides = prompter.decides
        starts = [lead[decides], prompter.not_visible[decides]]
        trees = []
        for hidden in self._run(branches):
            end = len(hidden) - len(digits)
            trees.append(
                DigitTree(
                    visible=lm.logits(hidden[end - len(lead) - 1 + decides], starts),  # [2]
                    tenths=lm.logits(hidden[end - 1], prompter.digits),  # [10]
                    hundredths=lm.logits(hidden[end:], prompter.digits),  # [10, 10]
                )
            )
        return trees

    def choice_odds(
        self, pairs: Sequence[tuple[ObjectQuery, ObjectQuery]], depths: Sequence[tuple[float, float]] | None
    ) -> NDArray[np.float64]:
        """Stage 2, reason: the raw log-odds that the first object of each pair is the closer one.

        Args:
            pairs: Objects, with their boxes where those are known.
            depths: The relative depths perceived, of every pair; None = asked directly, without them.

        Returns:
            [pairs, 2]: asked with the first of the pair named first, and named second.
        """
        # 1. Two branches per pair, one for either order of naming.
        branches = []
        for index, (a, b) in enumerate(pairs):
            for first, second in ((0, 1), (1, 0)):
                (mention_x, box_x), (mention_y, box_y) = (self._mention((a, b)[i]) for i in (first, second))
                lead = templates.CHOICE_LEAD
                if depths is not None:
                    lead = templates.reason_lead(depths[index][first], depths[index][second])
                question = templates.closer_question(mention_x, mention_y)
                branches.append(Branch(self._embed(self._prompter.question(question, box_x + box_y, lead))))
        # 2. Log-odds of "A" against "B" after the last token, [2 · pairs] → [pairs, 2].
        choices = [self._language_model.logits(hidden[-1], self._prompter.choices) for hidden in self._run(branches)]
        odds = np.array([a - b for a, b in choices], dtype=np.float64).reshape(-1, 2)
        # 3. In the second column "A" is the second of the pair.
        return odds * np.array([1.0, -1.0])

    def generate(self, question: str) -> str:
        """The model's own greedy answer to a question, at most MAX_NEW_TOKENS tokens."""
        return self._generate(self._prompter.question(question), MAX_NEW_TOKENS)

    def perceive_by_generating(self, query: ObjectQuery) -> str:
        """Stage 1 the plain way, for comparison: the prompt of `digit_trees`, answered token by token."""
        mention, boxes = self._mention(query)
        longest = max(len(self._prompter.depth_lead) + 2, len(self._prompter.not_visible)) + 1  # 1: where it ends
        return self._generate(self._prompter.question(templates.perceive_question(mention), boxes), longest)

    def _generate(self, suffix: Suffix, max_new_tokens: int) -> str:
        prompt = torch.cat([self._prefix_embeddings, self._embed(suffix)])
        tokens = self._language_model.generate(prompt, max_new_tokens)
        text: str = self._prompter.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def _run(self, branches: Sequence[Branch]) -> list[torch.Tensor]:
        return list(self._language_model.run_branches(self._prefix, branches)) if branches else []

    def _mention(self, query: ObjectQuery) -> tuple[str, list[Box]]:
        """How an object is named in a question, and the boxes, in [0, 1], that its region tokens stand for."""
        width, height, token = self._image.width, self._image.height, self._model.region_token
        mention = templates.mention_of(query, width, height, token)
        if query.box is None or not token:
            return mention, []
        return mention, [Box(*self._model.preprocessing.normalised(query.box, width, height))]

    def _embed(self, suffix: Suffix) -> torch.Tensor:
        """Embeddings [tokens, hidden] of a suffix, its region tokens pooled from the image."""
        embeddings = self._language_model.embed(suffix.ids)
        if suffix.boxes:
            boxes = torch.tensor([b.xyxy for b in suffix.boxes])
            pooled = region_tokens(self._image.features, boxes, self._model.spatial_merge_size)
            slots = torch.tensor([i == self._prompter.image_token_id for i in suffix.ids])
            embeddings[slots.to(embeddings.device)] = self._language_model.project(pooled).to(embeddings.dtype)
        return embeddings
