"""The engine: look at an image once, then ask anything about it.

Promises: one image encoding and one prefix pass per view; all objects of a request in one batch of branches, all
choices in another; answers depend on nothing but the model, the image and the request. Safe to call from several
threads (one at a time inside). Another adapter is another engine: this one and its views stay as they are. Knows
nothing of ROS, files or command lines.

Source: the two stages, perceive then reason, of Proximity QA, arXiv 2401.17862.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.backends.vision_encoder import TorchVisionEncoder, VisionEncoder
from proxqa_core.errors import BadModelError, BadObjectError, NotUnderstoodError
from proxqa_core.language import sentences, templates
from proxqa_core.language.questions import Question, understand
from proxqa_core.language.referring import Expression, read_expression
from proxqa_core.llm.branching import Branch, Prefix, run_branches, run_prefix
from proxqa_core.llm.prompts import Suffix
from proxqa_core.llm.readout import (
    DigitTree,
    compare_depths,
    read_choice,
    read_depth,
    read_visibility,
    visibility_evidence,
)
from proxqa_core.model.loading import DEFAULT, LoadedModel, check_adapter, load, with_adapter
from proxqa_core.types import (
    MAX_OBJECTS,
    VISIBLE,
    Box,
    ObjectDepth,
    ObjectQuery,
    ProximityAnswer,
    QuestionKind,
    check_image,
)
from proxqa_core.vision.colours import Colours, by_colour, patch_colours, reader
from proxqa_core.vision.grounding_head import (
    Candidate,
    GroundingHead,
    PatchFeatures,
    choose,
    find,
    likelihood,
    read,
    score_inside,
)
from proxqa_core.vision.regions import region_tokens
from proxqa_core.vision.tower import split_grid

MAX_NEW_TOKENS = 64
"""Longest free answer, in tokens."""
Asked = ObjectQuery | str


class ProximityEngine:
    """A loaded model that looks at images."""

    def __init__(self, model: LoadedModel, encoder: VisionEncoder | None = None):
        self.model = model
        self.encoder = encoder or TorchVisionEncoder(model.llava)
        if model.grounding_head is not None:
            reader()  # a damaged file is found now, not with the first colour that is asked for
        self._lock = threading.RLock()

    @classmethod
    def load(
        cls,
        source: str = DEFAULT,
        adapter: str | os.PathLike[str] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        say: Callable[[str], None] | None = None,
    ) -> ProximityEngine:
        """See `proxqa_core.model.loading.load`."""
        return cls(load(source, adapter, device, dtype, say))

    @property
    def model_name(self) -> str:
        return self.model.name

    def check_adapter(self, folder: str | os.PathLike[str]) -> str:
        """What the adapter in a folder calls itself, if this engine can take it, by its descriptions and headers.

        Raises ModelNotFoundError, BadModelError, where `with_adapter` would. No weight is read.
        """
        return check_adapter(self.model, folder).name

    def with_adapter(self, adapter: str | os.PathLike[str] | None = None) -> ProximityEngine:
        """An engine with the same base and another adapter, tried on an image; this engine is not changed.

        adapter: a folder; None = the model's own, 'none' = none, as for `load`. The answers are those of an engine that
        was loaded with it. What an adapter does not change is shared. Raises as `proxqa_core.model.loading.with_adapter`.
        """
        other = ProximityEngine(with_adapter(self.model, adapter), self.encoder)
        size = self.model.preprocessing.size
        try:
            (seen,) = other.encode_image(np.full((size, size, 3), 127, np.uint8)).depths(["chair"])
            sound = all(np.isfinite(v) for v in (seen.depth, seen.depth_stddev, seen.score))
        except (ValueError, ArithmeticError, LookupError):
            sound = False
        if not sound:
            raise BadModelError(f"model {other.model_name!r} gives no finite numbers; expected an adapter that answers")
        return other

    def info(self) -> dict[str, Any]:
        """What is loaded, for people and for reports."""
        adapter = self.model.adapter
        return {
            "model": self.model.name,
            "parameters": self.model.parameters(),
            "device": str(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "image_size": self.model.preprocessing.size,
            "image_tokens": self.model.prompter.image_tokens,
            "prefix_tokens": self.model.prompter.prefix_length,
            "adapter": None if adapter is None else adapter.name,
            "region_token": self.region_token,
            "grounding_head": self.model.grounding_head is not None,
            "general_questions": self.general_questions,
            "training": {} if adapter is None else adapter.training,
        }

    @property
    def region_token(self) -> bool:
        return self.model.adapter is not None and self.model.adapter.region_token

    @property
    def general_questions(self) -> bool:
        return self.model.adapter is None or self.model.adapter.general_questions

    def encode_image(self, image: NDArray[np.uint8]) -> EncodedImage:
        """Encode an image, uint8 [height, width, 3], RGB, once. Raises BadImageError on anything else."""
        check_image(image)
        with self._lock, torch.inference_mode():
            pixels = self.model.preprocessing.pixels([image])
            features = self.encoder.encode(pixels)[0]
            colours = patch_colours(self.model.preprocessing.as_seen(pixels[0]), self.model.patches_a_side)
            return EncodedImage(self, features, colours, image.shape[1], image.shape[0])

    # what follows is for View

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """The projector: vision features [..., hidden] → embeddings of the language model."""
        embeddings: torch.Tensor = self.model.llava.model.multi_modal_projector(features.to(self.model.dtype))
        return embeddings

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """Token ids → embeddings [tokens, hidden]."""
        table = self.model.llava.get_input_embeddings()
        embeddings: torch.Tensor = table(torch.tensor(list(ids), dtype=torch.long, device=self.model.device))
        return embeddings

    def logits(self, hidden: torch.Tensor, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Logits [..., len(tokens)] of some tokens only: the other 49,000 are not needed."""
        rows = self.model.llava.lm_head.weight[torch.tensor(list(tokens), device=hidden.device)]
        values: NDArray[np.float64] = (hidden.float() @ rows.float().T).double().cpu().numpy()
        return values


class EncodedImage:
    """One encoded image with its prefix cache. Made by `ProximityEngine.encode_image`."""

    def __init__(self, engine: ProximityEngine, features: torch.Tensor, colours: torch.Tensor, width: int, height: int):
        """features: [tokens, hidden], as the encoder gives them. colours: [patches, 3], see `patch_colours`."""
        self.engine = engine
        self.width = width
        self.height = height
        self._features = features
        self._patch_colours = colours
        prompter = engine.model.prompter
        parts = [engine.embed(prompter.before_image), engine.project(features), engine.embed(prompter.after_image)]
        self._prefix_embeddings = torch.cat(parts)
        self._known: dict[ObjectQuery, ObjectDepth] = {}
        self._found: dict[str, list[Candidate]] = {}
        self._reading: PatchFeatures | None = None

    @cached_property
    def _prefix(self) -> Prefix:
        """The language model's reading of the image, made with the first question."""
        return run_prefix(self.engine.model.llava.model.language_model, self._prefix_embeddings)

    @cached_property
    def _colours(self) -> Colours:
        """The colours in the image, made with the first question that names one."""
        return Colours.of(self._patch_colours)

    def depths(self, objects: Sequence[Asked]) -> tuple[ObjectDepth, ...]:
        """Relative depth of every object, in the order asked.

        Raises BadObjectError on no objects, more than MAX_OBJECTS, or a name or box that cannot be used.
        """
        queries = self._queries(objects)
        with self.engine._lock, torch.inference_mode():
            new = [q for q in dict.fromkeys(queries) if q not in self._known]
            self._known |= dict(zip(new, self._perceive(new), strict=True))
            return tuple(self._known[q] for q in queries)

    def closer(self, a: Asked, b: Asked) -> ProximityAnswer:
        """Which of two objects is closer; the probability is averaged over both orders of naming them."""
        return self.closer_many([(a, b)])[0]

    def closer_many(self, pairs: Sequence[tuple[Asked, Asked]], direct: bool = False) -> list[ProximityAnswer]:
        """`closer` of several pairs in one batch. direct: asked without the perceived depths (the ablation)."""
        queries = [(_query(a), _query(b)) for a, b in pairs]
        for a, b in queries:
            if a == b:
                raise BadObjectError(f"both objects are {a.name!r}; expected two different ones, or boxes to tell them")
        with self.engine._lock, torch.inference_mode():
            seen: list[ObjectDepth] = []
            flat = [q for pair in queries for q in pair]
            for start in range(0, len(flat), MAX_OBJECTS):
                seen += self.depths(flat[start : start + MAX_OBJECTS])
            found = list(zip(seen[::2], seen[1::2], strict=True))
            adapter = self.engine.model.adapter
            temperature = adapter.choice_temperature if adapter else 1.0
            if adapter is not None and not adapter.reasons and not direct:
                spread = ((a.depth, a.depth_stddev, b.depth, b.depth_stddev) for a, b in found)
                first = [compare_depths(*values, temperature) for values in spread]
            else:
                first = read_choice(self.choice_odds(queries, found, direct), temperature).tolist()
            return [self._closer_answer(pair, p) for pair, p in zip(found, first, strict=True)]

    def ask(self, question: str, objects: Sequence[Asked] = ()) -> ProximityAnswer:
        """Answer a free question.

        objects: known ones; they give names in the question their boxes, and are what 'nearest' ranges over.
        Raises NotUnderstoodError where there is nothing to go by, BadObjectError as `depths`.
        """
        known = self._queries(objects) if objects else []
        asked = understand(question, [q.name for q in known])
        with self.engine._lock, torch.inference_mode():
            return self._answer(asked, known)

    def _answer(self, asked: Question, known: list[ObjectQuery]) -> ProximityAnswer:
        named = [_pick(name, known) for name in asked.names]
        if asked.kind in (QuestionKind.CLOSER, QuestionKind.FARTHER):
            return _reworded(self.closer(named[0], named[1]), asked)
        if asked.kind is QuestionKind.GENERAL:
            return self._general(asked)
        targets = named or known
        if not targets:
            raise NotUnderstoodError(
                f"question {asked.asked[:60]!r} names no object; expected names in the question or a list of objects"
            )
        found = sorted(self.depths(targets), key=lambda o: (o.score < VISIBLE, o.depth))
        if asked.kind is QuestionKind.EQUAL:
            return self._equal_answer(asked, found)
        seen = [o for o in found if o.score >= VISIBLE]
        near, far = (seen[0].name, seen[-1].name) if len(seen) > 1 else ("", "")
        text = sentences.say_depths(found)  # nearest first
        if asked.kind is QuestionKind.FARTHEST and seen:
            text = f"The farthest is the {seen[-1].name}. {text}"
        return ProximityAnswer(asked.asked, asked.kind, text, tuple(found), near, far)

    def _equal_answer(self, asked: Question, found: Sequence[ObjectDepth]) -> ProximityAnswer:
        """Whether all of some objects, nearest first, are about equally far: the two ends are compared."""
        ends = ObjectQuery(found[0].name, found[0].box), ObjectQuery(found[-1].name, found[-1].box)
        answer = self.closer(*ends)
        near, far = answer.objects
        if all(o.score >= VISIBLE for o in found):
            text = sentences.say_equal(found, near, far, answer.probability)
        else:
            text = sentences.say_depths(found)
        objects = (near, far) if len(found) == 2 else tuple(found)
        return replace(answer, question=asked.asked, kind=asked.kind, answer=text, objects=objects)

    def _general(self, asked: Question) -> ProximityAnswer:
        if not self.engine.general_questions:
            raise NotUnderstoodError(
                f"question {asked.asked[:60]!r} is not about proximity, the only thing this model was taught; "
                "ask for example 'how far is the chair?' or 'which is closer, the chair or the table?'"
            )
        text = self.generate(templates.plain(asked.asked))
        if not text:
            raise NotUnderstoodError(f"the model has nothing to say to {asked.asked[:60]!r}")
        return ProximityAnswer(asked.asked, QuestionKind.GENERAL, text)

    def generate(self, question: str) -> str:
        """The model's own greedy words in answer to a question, at most MAX_NEW_TOKENS tokens."""
        return self._generate(self.engine.model.prompter.question(question), MAX_NEW_TOKENS)

    def perceive_by_generating(self, name: str) -> str:
        """Stage 1 the plain way, for comparison: the same prompt as `depths`, the whole of it through `generate()`."""
        prompter = self.engine.model.prompter
        said, boxes = self._mention(ObjectQuery(name))
        longest = max(len(prompter.depth_lead) + 2, len(prompter.not_visible)) + 1  # 1: where it ends
        return self._generate(prompter.question(templates.perceive_question(said), boxes), longest)

    def _generate(self, suffix: Suffix, longest: int) -> str:
        engine = self.engine
        with engine._lock, torch.inference_mode():
            prompt = torch.cat([self._prefix_embeddings, self._embed(suffix)])[None]
            tokens = engine.model.llava.generate(
                inputs_embeds=prompt,
                attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device),
                max_new_tokens=longest,
                do_sample=False,
            )
        text: str = engine.model.prompter.tokenizer.decode(tokens[0], skip_special_tokens=True)
        return text.strip()

    def _queries(self, objects: Sequence[Asked]) -> list[ObjectQuery]:
        if isinstance(objects, str):
            raise BadObjectError(f"objects is the text {objects!r}; expected a list of names")
        if not objects:
            raise BadObjectError("no objects were named; expected at least one name")
        if len(objects) > MAX_OBJECTS:
            raise BadObjectError(f"{len(objects)} objects are too many for one request; at most {MAX_OBJECTS}")
        return [_query(o) for o in objects]

    def find(self, names: Sequence[str]) -> list[list[Candidate]]:
        """The things that each name may mean, the likeliest first, boxes in [0, 1] of the square input.

        Empty lists where the model has no grounding head.
        """
        engine, grounding_head = self.engine, self.engine.model.grounding_head
        if grounding_head is None:
            return [[] for _ in names]
        with engine._lock, torch.inference_mode():
            new = [n for n in dict.fromkeys(names) if n not in self._found]
            if new:
                words = torch.stack([self._words(n) for n in new])
                self._found |= dict(zip(new, find(grounding_head, self._patches(grounding_head), words), strict=True))
        return [self._found[n] for n in names]

    def _candidates(self, meant: Expression) -> list[Candidate]:
        """The things that an expression may mean but for its place, the likeliest first."""
        found = self.find([meant.name])[0]
        if not found or not meant.colours:
            return found
        return by_colour(found, self._colours, meant.colours, self._likely(meant.name))

    def _likely(self, name: str) -> torch.Tensor:
        """How likely each patch shows what a name means, [side²], on the CPU. Only of a model with a grounding head."""
        grounding_head = self.engine.model.grounding_head
        assert grounding_head is not None
        with self.engine._lock, torch.inference_mode():
            return likelihood(grounding_head, self._patches(grounding_head), self._words(name)[None])[:, 0].cpu()

    def _patches(self, grounding_head: GroundingHead) -> PatchFeatures:
        """What the grounding head makes of this image, once."""
        if self._reading is None:
            self._reading = read(
                grounding_head, split_grid(self._features[None], self.engine.model.spatial_merge_size)[0]
            )
        return self._reading

    def _words(self, name: str) -> torch.Tensor:
        """Mean word embedding of a name, [words]."""
        ids = self.engine.model.prompter.plain_ids(" " + templates.plain(name)) or [0]
        return self.engine.embed(ids).float().mean(0)

    def _placed(self, query: ObjectQuery) -> ObjectQuery:
        """A query with the box of what is meant: its own, or where its name was found."""
        if query.box is not None or self.engine.model.grounding_head is None:
            return query
        meant = read_expression(query.name)
        box = choose(self._candidates(meant), meant.place)
        return ObjectQuery(query.name, self.engine.model.preprocessing.in_pixels(box, self.width, self.height))

    def _mention(self, query: ObjectQuery) -> tuple[str, list[Box]]:
        """How an object is said in a question, and the box that its region token stands for."""
        query = self._placed(query)
        token = self.engine.region_token
        said = templates.mention_of(query, self.width, self.height, token)
        if query.box is None or not token:
            return said, []
        return said, [Box(*self.engine.model.preprocessing.normalised(query.box, self.width, self.height))]

    def _embed(self, suffix: Suffix) -> torch.Tensor:
        """Embeddings [tokens, hidden] of a suffix, region tokens pooled from this view."""
        embeddings = self.engine.embed(suffix.ids)
        if suffix.boxes:
            boxes = torch.tensor([b.xyxy for b in suffix.boxes])
            pooled = region_tokens(self._features, boxes, self.engine.model.spatial_merge_size)
            places = torch.tensor([i == self.engine.model.prompter.image_token_id for i in suffix.ids])
            embeddings[places.to(embeddings.device)] = self.engine.project(pooled).to(embeddings.dtype)
        return embeddings

    def _run(self, branches: Sequence[Branch]) -> list[torch.Tensor]:
        return list(run_branches(self.engine.model.llava.model.language_model, self._prefix, branches))

    def _perceive(self, queries: Sequence[ObjectQuery]) -> list[ObjectDepth]:
        """Stage 1 for all queries."""
        adapter = self.engine.model.adapter
        temperature = adapter.depth_temperature if adapter else 1.0
        found = []
        for query, tree in zip(queries, self.digit_trees(queries), strict=True):
            placed = self._placed(query).box if query.box is None else None
            weights, visible = None, None
            if adapter is not None:
                weights = adapter.visibility if query.box is None else adapter.visibility_in_box
            if weights is not None:
                visible = read_visibility(self.visibility_evidence(query, tree), weights)
            read = read_depth(tree, temperature, visible)
            depth = ObjectDepth(query.name, read.mean, read.stddev, read.visible, read.text, query.box, found_at=placed)
            found.append(depth)
        return found

    def visibility_evidence(self, query: ObjectQuery, tree: DigitTree) -> NDArray[np.float64]:
        """What speaks for an object being there, or in its box, raw: see `readout.visibility_evidence`.

        Only of a model with a grounding head.
        """
        model = self.engine.model
        meant = read_expression(query.name)
        if query.box is None:
            return visibility_evidence(tree, self._candidates(meant)[0].score)
        assert model.grounding_head is not None
        box = Box(*model.preprocessing.normalised(query.box, self.width, self.height))
        with self.engine._lock, torch.inference_mode():
            found = score_inside(
                model.grounding_head, self._patches(model.grounding_head), self._words(meant.name), box
            )
        if meant.colours:
            found *= self._colours.fit(meant.colours, box, self._likely(meant.name))
        return visibility_evidence(tree, found)

    def digit_trees(self, queries: Sequence[ObjectQuery]) -> list[DigitTree]:
        """The raw logits of stage 1: each query is a branch with ten tails, the leaves of the digit tree."""
        engine, prompter = self.engine, self.engine.model.prompter
        with engine._lock, torch.inference_mode():
            tails = engine.embed(prompter.digits)
            branches = []
            for query in queries:
                said, boxes = self._mention(query)
                suffix = prompter.question(templates.perceive_question(said), boxes)
                with_lead = Suffix((*suffix.ids, *prompter.depth_lead), suffix.boxes)
                branches.append(Branch(self._embed(with_lead), tails))
            lead, decides = len(prompter.depth_lead), prompter.decides
            starts = [prompter.depth_lead[decides], prompter.not_visible[decides]]
            trees = []
            for hidden in self._run(branches):
                end = len(hidden) - 10
                trees.append(
                    DigitTree(
                        engine.logits(hidden[end - lead - 1 + decides], starts),
                        engine.logits(hidden[end - 1], prompter.digits),
                        engine.logits(hidden[end:], prompter.digits),
                    )
                )
            return trees

    def choice_odds(
        self,
        pairs: Sequence[tuple[ObjectQuery, ObjectQuery]],
        found: Sequence[tuple[ObjectDepth, ObjectDepth]],
        direct: bool = False,
    ) -> NDArray[np.float64]:
        """The raw log-odds of stage 2, [pairs, 2]: that the first of a pair is closer, named first and named second."""
        engine, prompter = self.engine, self.engine.model.prompter
        with engine._lock, torch.inference_mode():
            branches = []
            for (a, b), (depth_a, depth_b) in zip(pairs, found, strict=True):
                for x, y, at_x, at_y in ((a, b, depth_a, depth_b), (b, a, depth_b, depth_a)):
                    (said_x, box_x), (said_y, box_y) = self._mention(x), self._mention(y)
                    lead = templates.CHOICE_LEAD if direct else templates.reason_lead(at_x.depth, at_y.depth)
                    question = templates.closer_question(said_x, said_y)
                    branches.append(Branch(self._embed(prompter.question(question, box_x + box_y, lead))))
            said = [engine.logits(hidden[-1], prompter.choices) for hidden in self._run(branches)]
        odds = np.array([a - b for a, b in said], dtype=np.float64).reshape(-1, 2)
        return odds * np.array([1.0, -1.0])

    def _closer_answer(self, pair: tuple[ObjectDepth, ObjectDepth], first: float) -> ProximityAnswer:
        near, far = pair if first >= 0.5 else (pair[1], pair[0])
        probability = max(first, 1 - first)
        question = f"which is closer, the {pair[0].name} or the {pair[1].name}?"
        seen = all(o.score >= VISIBLE for o in pair)
        text = sentences.say_closer(near, far, probability) if seen else sentences.say_depths(pair)
        return ProximityAnswer(question, QuestionKind.CLOSER, text, (near, far), near.name, far.name, probability)


def _query(asked: Asked) -> ObjectQuery:
    return asked if isinstance(asked, ObjectQuery) else ObjectQuery(asked)


def _pick(name: str, known: Sequence[ObjectQuery]) -> ObjectQuery:
    """The known object of that name, with its box, else the name alone."""
    same = [q for q in known if q.name.casefold() == name.casefold()]
    if len(same) > 1:
        raise BadObjectError(f"{len(same)} objects are named {name!r}; expected names that differ: 'left {name}'")
    return same[0] if same else ObjectQuery(name)


def _reworded(answer: ProximityAnswer, asked: Question) -> ProximityAnswer:
    """The same answer to the question as it was asked, with a yes or no first where it wants one."""
    text = answer.answer
    if asked.yes_no and all(o.score >= VISIBLE for o in answer.objects):
        first = asked.names[0].casefold()
        claimed = answer.closer if asked.kind is QuestionKind.CLOSER else answer.farther
        text = sentences.say_yes_or_no(claimed.casefold() == first, answer.probability, text)
    return replace(answer, question=asked.asked, kind=asked.kind, answer=text)
