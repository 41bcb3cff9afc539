"""All words that the tower's training asks for: which labels each fits, and where one is known to be absent."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from proxqa_core.model.loading import LoadedModel
from proxqa_training.labels import LabelledImage
from proxqa_training.tower.words import general, means, unsure

LABEL_ITSELF = 0.6
"""Share of the objects that are asked for by their label rather than by another word for it."""
LIKELY_ABSENT = 0.2
"""Weight of "is not here" where a labelled object is called so and others may have been left unlabelled."""


class Vocabulary:
    """Words and the labels that they fit.

    Attributes:
        labels: Names of objects, sorted.
        words: Everything that an object with one of these labels may be called, sorted.
        word_index: Number of a word.
        label_index: Number of a label.
        fits: [labels, words], whether an object labelled so is called so.
        doubtful: [labels, words], whether it may be called so.

    Args:
        labels: The names of all objects; repeats do no harm.
    """

    def __init__(self, labels: Sequence[str]):
        self.labels = sorted(set(labels))
        self.words = sorted(set().union(*(general(label) for label in self.labels)))
        self.word_index = {w: i for i, w in enumerate(self.words)}
        self.label_index = {label: i for i, label in enumerate(self.labels)}
        self.fits = torch.stack([self._fits(n) for n in self.labels])
        self.doubtful = torch.stack([self._doubtful(n) for n in self.labels])
        self._known: dict[frozenset[str] | None, torch.Tensor] = {}
        self._present: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def _fits(self, label: str) -> torch.Tensor:
        return torch.tensor([means(w, label) for w in self.words])

    def _doubtful(self, label: str) -> torch.Tensor:
        return torch.tensor([unsure(w, label) for w in self.words])

    def absence_weights(self, image: LabelledImage) -> torch.Tensor:
        """How surely a patch without a label of a word shows no such object.

        Returns:
            [words]: 1 where that is certain, 0.2 where it is likely, 0 where nothing is known.
        """
        known = image.absent_known
        if known not in self._known:
            sure = torch.ones(len(self.words))
            if known is not None:
                sure = torch.tensor([float(any(means(w, k) for k in known)) for w in self.words])
            self._known[known] = sure
        weight = self._known[known].clone()
        for label in image.present:
            if label not in self._present:
                self._present[label] = self._fits(label), self._doubtful(label)
            fits, doubtful = self._present[label]
            weight[doubtful] = 0
            if not image.rendered:
                weight = torch.maximum(weight, LIKELY_ABSENT * fits.float())
        return weight

    def absence_table(self, images: Sequence[LabelledImage]) -> tuple[torch.Tensor, dict[int, int]]:
        """`absence_weights` of all images, equal ones once.

        Returns:
            The weights [rows, words], and the row of each image by its id().
        """
        rows: dict[tuple[bool, frozenset[str], frozenset[str] | None], int] = {}
        weights: list[torch.Tensor] = []
        row_of: dict[int, int] = {}
        for image in images:
            key = (image.rendered, image.present, image.absent_known)
            if key not in rows:
                rows[key] = len(weights)
                weights.append(self.absence_weights(image))
            row_of[id(image)] = rows[key]
        return torch.stack(weights), row_of

    def draw_word(self, label: str, rng: random.Random) -> int:
        """Number of a word for a label: mostly the label itself, else another word for it."""
        if rng.random() < LABEL_ITSELF:
            return self.word_index[label]
        return self.word_index[rng.choice(sorted(general(label)))]

    def embeddings(self, model: LoadedModel) -> torch.Tensor:
        """Mean word embeddings [words, hidden], of the words as they stand in a sentence."""
        table = model.llava.get_input_embeddings().weight.detach().float()
        return torch.stack([table[model.prompter.plain_ids(" " + w)].mean(0) for w in self.words])
