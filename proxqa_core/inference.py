"""What is run through the language model about one image.

Promises: what all prompts begin with is read once for all images, an image once, as a prefix, in one pass with the
first objects; all objects of a request are branches of one batch, all choices branches of another, and what several of
them begin with alike is read once. Nothing of this changes an answer. What comes out is raw: `proxqa_core.llm.readout`
makes numbers of it. An object whose box is known is asked about with its box. Not safe for several threads by itself:
`proxqa_core.engine` lets one in at a time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.protocols import LanguageModel
from proxqa_core.language import templates
from proxqa_core.llm.branching import MAX_TREE_TOKENS, Branch, Tree, common_length, common_starts
from proxqa_core.llm.prompts import Suffix
from proxqa_core.llm.readout import DigitTree
from proxqa_core.model.loading import LoadedModel
from proxqa_core.types import Box, ObjectQuery
from proxqa_core.vision.features import ImageFeatures
from proxqa_core.vision.regions import region_tokens

MAX_NEW_TOKENS = 64
"""Longest free answer, in tokens."""


MIN_SHARED_TOKENS = 128
"""Tokens that must be saved before what branches begin with alike gets a pass of its own, which reads all weights once
more."""


@dataclass(frozen=True, eq=False)
class PlainPrompts:
    """Prompts about one image that begin alike.

    Attributes:
        prefix: What they begin with, the image in it, [tokens, hidden].
        suffixes: What follows of each, [tokens, hidden].
        max_new_tokens: Of the longest answer.
    """

    prefix: torch.Tensor
    suffixes: list[torch.Tensor]
    max_new_tokens: int


class PromptStart:
    """What every prompt of a model begins with, read once by the language model.

    Args:
        model: The model.
        language_model: Runs its prompts.
    """

    def __init__(self, model: LoadedModel, language_model: LanguageModel[Any]):
        self._prompter = model.prompter
        self._language_model = language_model

    @cached_property
    def prefix(self) -> Any:
        """The handle of what stands before the image; None where nothing does."""
        before = self._prompter.before_image
        if not before:
            return None
        return self._language_model.run_prefixes([Branch(None, self._language_model.embed(before))])[0]

    @cached_property
    def perceive(self) -> tuple[int, ...]:
        """The tokens that questions of stage 1 begin with, whatever is asked for; empty where nothing is common."""
        questions = [self._prompter.question(templates.perceive_question(name)).ids for name in ("chair", "9", "Zoe")]
        return questions[0][: common_length(questions)]


class Inference:
    """Runs prompts about one image.

    Args:
        model: What the image was encoded with: its prompter and its geometry are used here, its networks are not.
        language_model: Runs the prompts.
        image: The encoded image.
        start: What the model's prompts begin with; None = made for this image alone.

    Attributes:
        prefix: The language model's handle of `prefix_branch`; None until it has been read.
    """

    def __init__(
        self,
        model: LoadedModel,
        language_model: LanguageModel[Any],
        image: ImageFeatures,
        start: PromptStart | None = None,
    ):
        self._model = model
        self._prompter = model.prompter
        self._language_model = language_model
        self._image = image
        self._start = start or PromptStart(model, language_model)
        self.prefix: Any = None

    @cached_property
    def _image_embeddings(self) -> torch.Tensor:
        """The image and what stands between it and every question, [tokens, hidden]."""
        lm = self._language_model
        return torch.cat([lm.project(self._image.features), lm.embed(self._prompter.after_image)])

    def prefix_branch(self) -> Branch:
        """The image and how questions of stage 1 begin, to be read."""
        rows = torch.cat([self._image_embeddings, self._language_model.embed(self._start.perceive)])
        return Branch(self._start.prefix, rows)

    def continued(self, branch: Branch) -> Branch:
        """A branch of stage 1, behind the prefix that has been read."""
        return branch if branch.after is not None else replace(branch, after=self.prefix)

    @property
    def _perceive_prefix(self) -> Any:
        """The language model's handle of `prefix_branch`, made with the first question unless it was given."""
        if self.prefix is None:
            self.prefix = self._language_model.run_prefixes([self.prefix_branch()])[0]
        return self.prefix

    @cached_property
    def _image_prefix(self) -> Any:
        """The language model's handle of the image."""
        return self._perceive_prefix.first(self._perceive_prefix.length - len(self._start.perceive))

    def digit_trees(self, queries: Sequence[ObjectQuery], hundredths: bool = True) -> list[DigitTree]:
        """Stage 1, perceive: the raw logits of the relative depth of every object.

        Args:
            queries: Objects, with their boxes where those are known.
            hundredths: Whether the second digit is asked for too, which takes ten more tokens for every object.

        Returns:
            One digit tree for every query.
        """
        asked = Perceiving(self, self.perceive_branches(queries, hundredths))
        return self.read_trees(run_perceiving(self._language_model, [asked])[0], hundredths)

    def perceive_branches(self, queries: Sequence[ObjectQuery], hundredths: bool) -> list[Branch]:
        """Stage 1's branches, one per object: question and "0.", for the hundredths ten digits as tails.

        As long as `prefix_branch` has not been read they name no prefix, and are what continues it.
        """
        lead = self._prompter.depth_lead
        digits = self._language_model.embed(self._prompter.digits) if hundredths else None
        suffixes = []
        for query in queries:
            mention, boxes = self._mention(query)
            question = self._prompter.question(templates.perceive_question(mention), boxes)
            suffixes.append(Suffix((*question.ids, *lead), question.boxes))
        rows = self._embed_all(suffixes)
        if not all(self._begins_alike(s) for s in suffixes):
            _ = self._perceive_prefix  # one of them continues a part of it
        return [self._perceive_branch(s, r, digits) for s, r in zip(suffixes, rows, strict=True)]

    def read_trees(self, hidden_states: Sequence[torch.Tensor], hundredths: bool) -> list[DigitTree]:
        """The digit trees of what ran of `perceive_branches`."""
        if not hidden_states:
            return []
        prompter, lm, lead = self._prompter, self._language_model, self._prompter.depth_lead
        # 1. Where the lead starts, and after the lead, [n, hidden] each of n objects.
        digits = len(prompter.digits) if hundredths else 0
        ends = [len(hidden) - digits for hidden in hidden_states]
        at_start, at_end = (
            torch.stack([hidden[end - back] for hidden, end in zip(hidden_states, ends, strict=True)])
            for back in (len(lead) + 1 - prompter.decides, 1)
        )
        visible = lm.logits(at_start, [lead[prompter.decides], prompter.not_visible[prompter.decides]])  # [n, 2]
        tenths = lm.logits(at_end, prompter.digits)  # [n, 10]
        if not hundredths:
            return [DigitTree(v, t, None) for v, t in zip(visible, tenths, strict=True)]
        # 2. After each first digit, [n, 10, hidden] → [n, 10, 10].
        tails = lm.logits(torch.stack([h[end:] for h, end in zip(hidden_states, ends, strict=True)]), prompter.digits)
        return [DigitTree(*of_one) for of_one in zip(visible, tenths, tails, strict=True)]

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
        # 1. Two suffixes per pair, one for either order of naming.
        suffixes, named_first = [], []
        for index, (a, b) in enumerate(pairs):
            for first, second in ((0, 1), (1, 0)):
                (mention_x, box_x), (mention_y, box_y) = (self._mention((a, b)[i]) for i in (first, second))
                lead = templates.CHOICE_LEAD
                if depths is not None:
                    lead = templates.reason_lead(depths[index][first], depths[index][second])
                question = templates.closer_question(mention_x, mention_y)
                suffixes.append(self._prompter.question(question, box_x + box_y, lead))
                named_first.append((a, b)[first])
        # 2. Log-odds of "A" against "B" after the last token, [2 · pairs] → [pairs, 2].
        last = [hidden[-1] for hidden in self._run_sharing(suffixes, named_first)]
        choices = [self._language_model.logits(hidden, self._prompter.choices) for hidden in last]
        odds = np.array([a - b for a, b in choices], dtype=np.float64).reshape(-1, 2)
        # 3. In the second column "A" is the second of the pair.
        return odds * np.array([1.0, -1.0])

    def generate(self, question: str) -> str:
        """The model's own greedy answer to a question, at most MAX_NEW_TOKENS tokens."""
        return self._generate(self._prompter.question(question), MAX_NEW_TOKENS)

    def prompts(self, queries: Sequence[ObjectQuery]) -> PlainPrompts:
        """Stage 1's prompts as they are, for comparison: nothing is run."""
        suffixes = []
        for query in queries:
            mention, boxes = self._mention(query)
            suffixes.append(self._embed(self._prompter.question(templates.perceive_question(mention), boxes)))
        before = self._language_model.embed(self._prompter.before_image)
        return PlainPrompts(torch.cat([before, self._image_embeddings]), suffixes, self._longest_depth)

    @property
    def _longest_depth(self) -> int:
        """Tokens of the longest answer of stage 1, and of its end."""
        return max(len(self._prompter.depth_lead) + 2, len(self._prompter.not_visible)) + 1

    def perceive_by_generating(self, query: ObjectQuery) -> str:
        """Stage 1 the plain way, for comparison: the prompt of `digit_trees`, answered token by token."""
        mention, boxes = self._mention(query)
        return self._generate(self._prompter.question(templates.perceive_question(mention), boxes), self._longest_depth)

    def _generate(self, suffix: Suffix, max_new_tokens: int) -> str:
        before = self._language_model.embed(self._prompter.before_image)
        prompt = torch.cat([before, self._image_embeddings, self._embed(suffix)])
        tokens = self._language_model.generate(prompt, max_new_tokens)
        text: str = self._prompter.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def _begins_alike(self, suffix: Suffix) -> bool:
        """Whether a question begins as all of stage 1 do."""
        return suffix.ids[: len(self._start.perceive)] == self._start.perceive

    def _perceive_branch(self, suffix: Suffix, rows: torch.Tensor, tails: torch.Tensor | None) -> Branch:
        """A branch of stage 1 of its embeddings, behind the start of its question where it begins as they all do."""
        if self._begins_alike(suffix):
            return Branch(self.prefix, rows[len(self._start.perceive) :], tails)
        return Branch(self._image_prefix, rows, tails)

    def _run_sharing(self, suffixes: Sequence[Suffix], groups: Sequence[Hashable]) -> list[torch.Tensor]:
        """The hidden states of suffixes, [tokens, hidden] each without what it shares with its group."""
        lm, rows = self._language_model, self._embed_all(suffixes)
        shared = common_starts([suffix.keys(self._prompter.image_token_id) for suffix in suffixes], groups)
        stems = {group: (index, shared[index]) for index, group in enumerate(groups) if shared[index]}
        saved = sum(shared) - sum(length for _, length in stems.values())
        if saved < MIN_SHARED_TOKENS:
            return lm.run_branches([Branch(self._image_prefix, r) for r in rows]) if rows else []
        # 1. What each group begins with, once; 2. all that follows.
        read = lm.run_prefixes([Branch(self._image_prefix, rows[i][:length]) for i, length in stems.values()])
        after = dict(zip(stems, read, strict=True))
        every = zip(groups, rows, shared, strict=True)
        return lm.run_branches([Branch(after.get(group, self._image_prefix), r[n:]) for group, r, n in every])

    def _mention(self, query: ObjectQuery) -> tuple[str, list[Box]]:
        """How an object is named in a question, and the boxes, in [0, 1], that its region tokens stand for."""
        width, height, form = self._image.width, self._image.height, self._model.box_form
        mention = templates.mention_of(query, width, height, form)
        if query.box is None or not form.region_token:
            return mention, []
        return mention, [Box(*self._model.preprocessing.normalised(query.box, width, height))]

    def _embed(self, suffix: Suffix) -> torch.Tensor:
        """Embeddings [tokens, hidden] of a suffix, its region tokens pooled from the image."""
        return self._embed_all([suffix])[0]

    def _embed_all(self, suffixes: Sequence[Suffix]) -> list[torch.Tensor]:
        """`_embed` of several, all words and all region tokens at once."""
        if not suffixes:
            return []
        ids = [i for suffix in suffixes for i in suffix.ids]
        boxes = [box.xyxy for suffix in suffixes for box in suffix.boxes]
        embeddings = self._language_model.embed(ids)
        if boxes:
            tokens = self._region_tokens(torch.tensor(boxes))
            slots = torch.tensor([i == self._prompter.image_token_id for i in ids])
            embeddings[slots.to(embeddings.device)] = tokens.to(embeddings.dtype)
        return list(embeddings.split([len(suffix.ids) for suffix in suffixes]))

    def _region_tokens(self, boxes: torch.Tensor) -> torch.Tensor:
        """What stands for boxes [n, 4] in a prompt, [n, hidden]."""
        pooled = region_tokens(self._image.features, boxes, self._model.spatial_merge_size)
        tokens = self._language_model.project(pooled)
        if self._model.box_embedding is not None:
            tokens = tokens + self._model.box_embedding(boxes.to(tokens.device)).to(tokens.dtype)
        return tokens


@dataclass(frozen=True, eq=False)
class Perceiving:
    """Stage 1 of some objects in one image, to be run.

    Attributes:
        inference: The image's.
        branches: From its `perceive_branches`.
    """

    inference: Inference
    branches: list[Branch]

    @property
    def unread(self) -> bool:
        """Whether the image is read with these."""
        return self.inference.prefix is None and bool(self.branches)

    @property
    def as_tree(self) -> Tree:
        """The image with its objects, as one pass reads them."""
        return Tree(self.inference.prefix_branch(), tuple(self.branches))


def run_perceiving(language_model: LanguageModel[Any], asked: Sequence[Perceiving]) -> list[list[torch.Tensor]]:
    """Run stage 1 of one or several images.

    Args:
        language_model: Runs it.
        asked: Of different images.

    Returns:
        For each of them the hidden states of its branches, for `Inference.read_trees`.
    """
    # 1. Images that are read with few objects: both in one pass.
    trees = [p for p in asked if p.unread and sum(b.size for b in p.branches) <= MAX_TREE_TOKENS]
    found: dict[int, list[torch.Tensor]] = {}
    for p, (prefix, hidden) in zip(
        trees, language_model.run_trees([p.as_tree for p in trees]) if trees else [], strict=True
    ):
        p.inference.prefix, found[id(p)] = prefix, hidden
    # 2. Images that are read with many: first all images, then all objects.
    unread = [p for p in asked if p.unread]
    prefixes = language_model.run_prefixes([p.inference.prefix_branch() for p in unread]) if unread else []
    for p, prefix in zip(unread, prefixes, strict=True):
        p.inference.prefix = prefix
    rest = [p for p in asked if id(p) not in found]
    branches = [p.inference.continued(b) for p in rest for b in p.branches]
    hidden_states = iter(language_model.run_branches(branches) if branches else [])
    for p in rest:
        found[id(p)] = [next(hidden_states) for _ in p.branches]
    return [found[id(p)] for p in asked]
