"""The engine: encode an image once, then ask anything about it.

Promises: one image encoding and one prefix pass per image; all objects of a request in one batch of branches, all
choices in another; answers depend on nothing but the model, the image and the request. Safe to call from several
threads (one at a time inside). Another adapter is another engine: this one and its encoded images stay as they are.
Knows nothing of ROS, files or command lines.

Made of four parts: `grounding` finds what is named, `inference` runs the language model, `ordering` compares boxes by
what the tower saw, `answering` makes answers.

Source: the two stages, perceive then reason, of Proximity QA, arXiv 2401.17862.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.answering import (
    Familiar,
    answer,
    as_found,
    as_queries,
    as_query,
    closer_answer,
    ends,
    nearest_first,
    needs,
    needs_of_depths,
)
from proxqa_core.backends.choice import Networks, choose
from proxqa_core.backends.config import BackendConfig
from proxqa_core.backends.protocols import LanguageModel
from proxqa_core.errors import BadModelError, BadObjectError, NotUnderstoodError
from proxqa_core.grounding import Grounding
from proxqa_core.inference import Inference, Perceiving, PlainPrompts, PromptStart, run_perceiving
from proxqa_core.language.questions import understand
from proxqa_core.llm import readout
from proxqa_core.llm.readout import DigitTree, read_choice, read_depth, read_visibility
from proxqa_core.model.loading import DEFAULT, LoadedModel, check_adapter, load, with_adapter
from proxqa_core.ordering import Ordering
from proxqa_core.protocols import ObjectLike
from proxqa_core.ranking import by_depth, pairs_of, rank
from proxqa_core.types import MAX_OBJECTS, Box, ObjectDepth, ObjectQuery, ProximityAnswer, check_image
from proxqa_core.vision.colours import patch_colours, reader
from proxqa_core.vision.features import ImageFeatures
from proxqa_core.vision.grounding_head import Candidate
from proxqa_core.vision.image_file import ImageLike, as_image

TEST_NAME = "chair"
"""What is asked for to try out an adapter."""


class ProximityEngine:
    """A loaded model that encodes images.

    Args:
        model: From `proxqa_core.model.loading.load`.
        networks: What runs its networks; None = PyTorch.

    Raises:
        BadModelError: The bundled colour reader is damaged.
    """

    def __init__(
        self,
        model: LoadedModel,
        networks: Networks | None = None,
    ):
        self.model = model
        self.networks = networks or choose(model, BackendConfig("torch"))
        self.encoder = self.networks.encoder
        _ = model.prompter  # its tokenizer is read while a language model is made
        self.language_model = self.networks.make_language_model(model)
        self._start = PromptStart(model, self.language_model)
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
        on_progress: Callable[[str], None] | None = None,
        allow_download: bool = True,
        backend: BackendConfig | None = None,
    ) -> ProximityEngine:
        """Load a model and choose what runs it.

        Args:
            source, adapter, device, dtype, on_progress, allow_download: As of `proxqa_core.model.loading.load`, whose
                errors these are.
            backend: See `proxqa_core.backends.choice.choose`.
        """
        model = load(source, adapter, device, dtype, on_progress, allow_download)
        return cls(model, choose(model, backend, on_progress))

    @property
    def model_name(self) -> str:
        """What to call the model in messages and reports."""
        return self.model.name

    def check_adapter(self, folder: str | os.PathLike[str]) -> str:
        """Whether this engine can take the adapter in a folder, by its descriptions and headers; no weight is read.

        Args:
            folder: An adapter folder.

        Returns:
            What the adapter calls itself.

        Raises:
            ModelNotFoundError: Files are missing.
            BadModelError: Files are damaged, or made for another base.
        """
        return check_adapter(self.model, folder).name

    def with_adapter(self, adapter: str | os.PathLike[str] | None = None) -> ProximityEngine:
        """An engine with the same base and another adapter, tried on an image; this engine is not changed.

        Args:
            adapter: A folder; None = the model's own, 'none' = none, as for `load`.

        Returns:
            An engine whose answers are those of one that was loaded with the adapter. What an adapter does not change
            is shared.

        Raises:
            ModelNotFoundError: Files are missing.
            BadModelError: Files are damaged, made for another base, or give no finite numbers.
        """
        other = ProximityEngine(with_adapter(self.model, adapter), self.networks)
        size = self.model.preprocessing.size
        try:
            (seen,) = other.encode_image(np.full((size, size, 3), 127, np.uint8)).depths([TEST_NAME])
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
            "backend": self.networks.name,
            "vision_encoder": self.encoder.description,
            "language_model": self.language_model.description,
            "image_size": self.model.preprocessing.size,
            "image_tokens": self.model.prompter.image_tokens,
            "prefix_tokens": self.model.prompter.prefix_length,
            "adapter": None if adapter is None else adapter.name,
            "region_token": self.model.region_token,
            "box_coordinates": self.model.box_form.coordinates,
            "box_embedding": self.model.box_embedding is not None,
            "grounding_head": self.model.grounding_head is not None,
            "order_head": self.model.order_head is not None,
            "closer_by": "stage 2" if adapter is None else adapter.closer_by,
            "general_questions": self.model.general_questions,
            "training": {} if adapter is None else adapter.training,
        }

    def encode_image(self, image: ImageLike) -> EncodedImage:
        """Encode an image once, for any number of questions.

        Args:
            image: uint8 [height, width, 3], RGB; or the path of an image file, or a PIL image.

        Returns:
            The encoded image, to be asked.

        Raises:
            BadImageError: It is anything else, or cannot be used.
        """
        return self.encode_images([as_image(image)])[0]

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> list[EncodedImage]:
        """`encode_image` of several images, of several cameras for example, as one batch.

        Args:
            images: uint8 [height, width, 3] each, RGB, of any sizes.

        Returns:
            The encoded images, in order.

        Raises:
            BadImageError: One is anything else.
        """
        for image in images:
            check_image(image)
        if not images:
            return []
        preprocessing, side = self.model.preprocessing, self.model.patches_per_side
        with self._lock, torch.inference_mode():
            pixels = preprocessing.pixels(images)
            encoded = []
            for image, features, own in zip(images, self.encoder.encode(pixels), pixels, strict=True):
                colours = patch_colours(preprocessing.as_seen(own), side)
                of_image = ImageFeatures(features, colours, image.shape[1], image.shape[0])
                encoded.append(EncodedImage(self.model, self.language_model, of_image, self._lock, self._start))
            return encoded

    def depths_of_images(
        self, images: Sequence[EncodedImage], objects: Sequence[ObjectLike]
    ) -> list[tuple[ObjectDepth, ...]]:
        """The depths of the same objects in several images, of several cameras for example, in as few passes.

        Args:
            images: Encoded by this engine.
            objects: As of `EncodedImage.depths`, whose errors these are.

        Returns:
            For every image what its `depths` gives.
        """
        queries = as_queries(objects)
        with self._lock, torch.inference_mode():
            perceive_together(self.language_model, images, queries)
            return [image.depths(queries) for image in images]


class EncodedImage:
    """One encoded image with its prefix. Made by `ProximityEngine.encode_image`.

    Args:
        model: What it was encoded with.
        language_model: Runs the questions.
        image: What the encoder made of it.
        lock: Held while something runs: the engine's, so that one runs at a time.
        start: What the engine's prompts begin with.
    """

    def __init__(
        self,
        model: LoadedModel,
        language_model: LanguageModel[Any],
        image: ImageFeatures,
        lock: threading.RLock,
        start: PromptStart | None = None,
    ):
        self.width = image.width
        self.height = image.height
        self._model = model
        self._grounding = Grounding(model, language_model, image)
        self._inference = Inference(model, language_model, image, start)
        self._ordering = Ordering(model, image)
        self._lock = lock
        self._perceived: dict[ObjectQuery, ObjectDepth] = {}
        self._first_closer: dict[tuple[ObjectQuery, ObjectQuery], float] = {}

    def depths(self, objects: Sequence[ObjectLike]) -> tuple[ObjectDepth, ...]:
        """Relative depth of every object.

        Args:
            objects: Names, or queries with boxes in pixels.

        Returns:
            One result for every object, in the order asked; one whose box lies outside the image is not in view (score
            0, and the text says so), the others are not affected.

        Raises:
            BadObjectError: There are no objects, more than MAX_OBJECTS, or a name or box that cannot be used.
        """
        queries = as_queries(objects)
        with self._running():
            new = [q for q in dict.fromkeys(queries) if q not in self._perceived]
            self._perceived |= {q: self._outside(q) for q in new if not self._in_image(q)}
            inside = [q for q in new if q not in self._perceived]
            self._perceived |= dict(zip(inside, self._perceive(inside), strict=True))
            return tuple(self._perceived[q] for q in queries)

    def closer(self, a: ObjectLike, b: ObjectLike) -> ProximityAnswer:
        """Which of two objects is closer; the probability is averaged over both orders of naming them.

        Raises:
            BadObjectError: Both are the same, or one cannot be used.
        """
        return self.closer_many([(a, b)])[0]

    def closer_many(
        self, pairs: Sequence[tuple[ObjectLike, ObjectLike]], direct: bool = False
    ) -> list[ProximityAnswer]:
        """`closer` of several pairs in one batch.

        Args:
            pairs: Two different objects each.
            direct: Ask without the perceived depths (the ablation).

        Returns:
            One answer for every pair, in order.

        Raises:
            BadObjectError: Both objects of a pair are the same, or one cannot be used.
        """
        queries = [(as_query(a), as_query(b)) for a, b in pairs]
        for a, b in queries:
            if a == b:
                raise BadObjectError(f"both objects are {a.name!r}; expected two different ones, or boxes to tell them")
        with self._running():
            seen = self._depths_of_all([q for pair in queries for q in pair])
            found = [(seen[a], seen[b]) for a, b in queries]
            inside = [pair for pair in queries if all(self._in_image(q) for q in pair)]
            # of boxes outside the image nothing is compared
            first = self._first_is_closer(inside, seen, direct)
            return [closer_answer(of, first.get(pair, 0.5)) for pair, of in zip(queries, found, strict=True)]

    def ranking(self, objects: Sequence[ObjectLike], found: bool = False) -> list[int]:
        """Objects in order, as `closer` tells of every two of them (`proxqa_core.ranking`).

        A model that compares by stage 2 is asked about two objects; of more, whose every pair would take two branches
        of the language model, the depths alone tell the order.

        Args:
            objects: As of `depths`, whose errors these are.
            found: Their boxes were found in the image by their names and not given: they are compared as those that
                are asked about by name are, of which it is less certain that they are what is meant.

        Returns:
            Their numbers in `objects`, the nearest first; what is not seen last.
        """
        queries = as_queries(objects)
        with self._running():
            read = self.depths(queries)
            if found:
                read = tuple(as_found(o) for o in read)
            order = by_depth(read)
            seen = sorted(i for i in order if read[i].is_answered)
            return [*self._ranked(seen, queries, read), *order[len(seen) :]]

    def _ranked(self, seen: list[int], queries: Sequence[ObjectQuery], found: Sequence[ObjectDepth]) -> list[int]:
        """Numbers of objects, all of them seen, the nearest first."""
        pairs, of_seen = pairs_of(len(seen)), [found[i] for i in seen]
        adapter = self._model.adapter
        if adapter is not None and not adapter.reasons:
            closer = self._ordering.closer(of_seen, pairs, adapter)
        elif len(seen) == 2 and queries[seen[0]] != queries[seen[1]]:
            pair = (queries[seen[0]], queries[seen[1]])
            closer = [self._first_is_closer([pair], dict(zip(pair, of_seen, strict=True)), direct=False)[pair]]
        else:
            return [seen[i] for i in by_depth(of_seen)]
        return [seen[i] for i in rank(len(seen), dict(zip(pairs, closer, strict=True)))]

    def prepare(self, questions: Sequence[tuple[str, Sequence[ObjectLike]]]) -> None:
        """Perceive what several questions need in as few passes as that takes; answers are remembered.

        Args:
            questions: Each in words with the known objects, as of `ask`; '' asks for the objects' depths. One that
                cannot be answered is left out: `ask` says why.
        """
        wanted = []
        for text, objects in questions:
            with contextlib.suppress(BadObjectError, NotUnderstoodError):
                known = as_queries(objects) if objects else []
                asked = needs(understand(text, [q.name for q in known]), known) if text else needs_of_depths(known)
                wanted.append(asked)
        with self._running():
            self._depths_of_all([q for w in wanted for q in (*w.objects, *w.compared)])
            pairs = [w.compared for w in wanted if w.compared]
            pairs += [ends(nearest_first(self, w.objects)) for w in wanted if w.ends_compared and len(w.objects) > 1]
            self.closer_many([(a, b) for a, b in dict.fromkeys(pairs) if a != b])

    def _depths_of_all(self, queries: Sequence[ObjectQuery]) -> dict[ObjectQuery, ObjectDepth]:
        """`depths` of any number of objects."""
        each = list(dict.fromkeys(queries))
        seen: dict[ObjectQuery, ObjectDepth] = {}
        for start in range(0, len(each), MAX_OBJECTS):
            some = each[start : start + MAX_OBJECTS]
            seen |= dict(zip(some, self.depths(some), strict=True))
        return seen

    def ask(self, question: str, objects: Sequence[ObjectLike] = ()) -> ProximityAnswer:
        """Answer a question in words.

        Args:
            question: What is asked.
            objects: Known ones; they give names in the question their boxes, and are what 'nearest' ranges over. Where
                neither they nor the question name anything, that is what the model was taught to find (`familiar`).

        Returns:
            The answer, a sentence with the numbers it is made from.

        Raises:
            NotUnderstoodError: The question is not understood, names nothing, or is none this model can answer.
            BadObjectError: As for `depths`, or several known objects have a name that the question uses.
        """
        known = as_queries(objects) if objects else []
        understood = understand(question, [q.name for q in known])
        with self._running():
            return answer(self, understood, known, self.generate if self._model.general_questions else None)

    def instances(self, name: str) -> list[ObjectQuery]:
        """Everything in view that a name may mean, each with its box in pixels, the likeliest first.

        Args:
            name: With colours if wanted ('red chair'); one with a place ('leftmost chair') means one thing only.

        Returns:
            At most MAX_INSTANCES; empty where the name means nothing in view or the model has no grounding head.
        """
        with self._running():
            return self._grounding.instances(name)

    def familiar(self) -> Familiar | None:
        """What is in view of all that the model was taught to find and was measured to find well.

        One pass for all names and the image, and one of the language model for what was found.

        Returns:
            Each thing with its box, by the likeliest name for it; None where the model does not say what it was taught.
        """
        taught = self._model.taught_names
        if taught is None or not taught.reliable or self._model.grounding_head is None:
            return None
        with self._running():
            return Familiar(len(taught.reliable), tuple(self._grounding.things(taught.reliable)))

    def ground(self, names: Sequence[str]) -> list[list[Candidate]]:
        """The things that each name may mean; see `Grounding.candidates`."""
        with self._running():
            return self._grounding.candidates(names)

    def generate(self, question: str) -> str:
        """The model's own greedy answer to a question; see `Inference.generate`."""
        with self._running():
            return self._inference.generate(question)

    def perceive_by_generating(self, name: str) -> str:
        """Stage 1 the plain way, for comparison; see `Inference.perceive_by_generating`."""
        with self._running():
            return self._inference.perceive_by_generating(self._grounding.locate(ObjectQuery(name)))

    def prompts(self, queries: Sequence[ObjectQuery]) -> PlainPrompts:
        """Stage 1's prompts as they are, for comparison; see `Inference.prompts`."""
        with self._running():
            return self._inference.prompts(self._grounding.locate_all(queries))

    def digit_trees(self, queries: Sequence[ObjectQuery], hundredths: bool = True) -> list[DigitTree]:
        """The raw logits of stage 1, for calibration; see `Inference.digit_trees`."""
        with self._running():
            return self._inference.digit_trees(self._grounding.locate_all(queries), hundredths)

    def choice_odds(
        self,
        pairs: Sequence[tuple[ObjectQuery, ObjectQuery]],
        found: Sequence[tuple[ObjectDepth, ObjectDepth]],
        direct: bool = False,
    ) -> NDArray[np.float64]:
        """The raw log-odds of stage 2, for calibration.

        Args:
            pairs: Two different objects each.
            found: What `depths` gave for them.
            direct: Ask without these depths.

        Returns:
            See `Inference.choice_odds`.
        """
        depths = None if direct else [(a.depth, b.depth) for a, b in found]
        with self._running():
            located = [(self._grounding.locate(a), self._grounding.locate(b)) for a, b in pairs]
            return self._inference.choice_odds(located, depths)

    def box_order(self, boxes: Sequence[Box]) -> list[float] | None:
        """What the order head says of boxes, for calibration.

        Args:
            boxes: In pixels.

        Returns:
            In log-odds, the smaller the nearer; None where there is no order head.
        """
        if self._model.order_head is None:
            return None
        with self._running():
            order = self._ordering.of(boxes)
            return [order[box] for box in boxes]

    def visibility_evidence(self, query: ObjectQuery, tree: DigitTree) -> NDArray[np.float64]:
        """The raw evidence that an object is in view, or in its box, for calibration.

        Only of a model with a grounding head.

        Args:
            query: The object.
            tree: What `digit_trees` gave for it.

        Returns:
            See `proxqa_core.llm.readout.visibility_evidence`.
        """
        with self._running():
            return readout.visibility_evidence(tree, self._grounding.score(query))

    def to_perceive(self, queries: Sequence[ObjectQuery]) -> tuple[list[ObjectQuery], Perceiving]:
        """Those of some objects that have not been perceived, and what is to be run for them."""
        new = [q for q in dict.fromkeys(queries) if q not in self._perceived and self._in_image(q)]
        branches = self._inference.perceive_branches(self._grounding.locate_all(new), self._hundredths)
        return new, Perceiving(self._inference, branches)

    def take_perceived(self, queries: Sequence[ObjectQuery], hidden_states: Sequence[torch.Tensor]) -> None:
        """Take what came out of `to_perceive`."""
        trees = self._inference.read_trees(hidden_states, self._hundredths)
        self._perceived |= {q: self._read(q, tree) for q, tree in zip(queries, trees, strict=True)}

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """One thread at a time, without gradients."""
        with self._lock, torch.inference_mode():
            yield

    def _in_image(self, query: ObjectQuery) -> bool:
        """Whether a query has no box, or one of which at least a pixel is inside the image."""
        try:
            return query.box is None or query.box.clipped(self.width, self.height) is not None
        except BadObjectError:
            return False

    def _outside(self, query: ObjectQuery) -> ObjectDepth:
        """The result for an object whose box lies outside the image: nothing is known of its depth."""
        assert query.box is not None
        box = [round(v) for v in query.box.xyxy]
        text = f"its box {box} lies outside the image of {self.width}x{self.height} pixels"
        return ObjectDepth(query.name, math.nan, math.nan, 0.0, text, query.box)

    def _perceive(self, queries: Sequence[ObjectQuery]) -> list[ObjectDepth]:
        """Stage 1 for all queries."""
        trees = self.digit_trees(queries, self._hundredths)
        return [self._read(query, tree) for query, tree in zip(queries, trees, strict=True)]

    @property
    def _hundredths(self) -> bool:
        """Whether the second digit of a depth is asked for, as the model is calibrated."""
        return self._model.adapter is None or self._model.adapter.depth_digits == 2

    def _read(self, query: ObjectQuery, tree: DigitTree) -> ObjectDepth:
        """One object's depth out of its digit tree, calibrated as the adapter has it."""
        adapter = self._model.adapter
        temperature, weights, visible = 1.0, None, None
        if adapter is not None:
            temperature = adapter.depth_temperature
            weights = adapter.visibility if query.box is None else adapter.visibility_in_box
        if weights is not None:
            visible = read_visibility(self.visibility_evidence(query, tree), weights)
        read = read_depth(tree, temperature, visible)
        found_at = self._grounding.locate(query).box if query.box is None else None
        return ObjectDepth(query.name, read.mean, read.stddev, read.visible, read.text, query.box, found_at=found_at)

    def _first_is_closer(
        self, pairs: Sequence[tuple[ObjectQuery, ObjectQuery]], seen: Mapping[ObjectQuery, ObjectDepth], direct: bool
    ) -> dict[tuple[ObjectQuery, ObjectQuery], float]:
        """Probability that the first of each pair is closer: asked in stage 2, or, of a model without, from depths.

        Answers are remembered, for either order of naming; those of `direct`, which nobody repeats, are not.
        """
        known = {} if direct else self._first_closer
        new: dict[tuple[ObjectQuery, ObjectQuery], None] = {}
        for a, b in pairs:
            if (a, b) not in known and (a, b) not in new and (b, a) not in new:
                new[a, b] = None
        for (a, b), first in zip(new, self._compared(list(new), seen, direct), strict=True):
            known |= {(a, b): first, (b, a): 1 - first}
        return {pair: known[pair] for pair in pairs}

    def _compared(
        self, pairs: Sequence[tuple[ObjectQuery, ObjectQuery]], seen: Mapping[ObjectQuery, ObjectDepth], direct: bool
    ) -> list[float]:
        """Probability of each pair that its first is closer."""
        if not pairs:
            return []
        adapter = self._model.adapter
        temperature = adapter.choice_temperature if adapter else 1.0
        found = [(seen[a], seen[b]) for a, b in pairs]
        if adapter is not None and not adapter.reasons and not direct:
            each = [o for pair in found for o in pair]
            return self._ordering.closer(each, [(2 * i, 2 * i + 1) for i in range(len(found))], adapter)
        probabilities: list[float] = read_choice(self.choice_odds(pairs, found, direct), temperature).tolist()
        return probabilities


def perceive_together(
    language_model: LanguageModel[Any], images: Sequence[EncodedImage], queries: Sequence[ObjectQuery]
) -> None:
    """Perceive the same objects in several images, in one batch."""
    each = list(dict.fromkeys(images))
    asked = [image.to_perceive(queries) for image in each]
    hidden_states = run_perceiving(language_model, [of_image for _, of_image in asked])
    for image, (perceived, _), hidden in zip(each, asked, hidden_states, strict=True):
        image.take_perceived(perceived, hidden)
