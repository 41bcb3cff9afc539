"""Conversations of a LLaVA file as what a model is trained on: token ids, labels, pixels.

Promises: the file is read once, as a stream, and samples by their place in a scratch file: 1.5 GB of conversations take
a few MB of memory. A sample that cannot be used is counted and named; one with an image that cannot be read is replaced
by the next sample, and the image named.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxqa_core.datasets.llava import IMAGE_MARK, Conversation, Turn, read_conversations
from proxqa_core.datasets.reading import ReadReport
from proxqa_core.errors import ProxqaError
from proxqa_core.model.loading import LoadedModel
from proxqa_core.vision.image_file import read_image
from proxqa_training.llava.encoding import IGNORE, ConversationEncoder

log = logging.getLogger(__name__)

MIXED = ("mixed", "")
"""Samples of every stage: general instructions."""
CHARACTERS_PER_TOKEN = 4
"""About; only what goes into one batch depends on it."""
BAD_IMAGES = "bad_images.txt"
MAX_BAD_IN_A_ROW = 100
"""Samples after which the folder is taken for another one than that of the images."""


@dataclass
class DatasetReport:
    """What is trained on. samples: by stage; left_out: samples that cannot be used, by reason."""

    samples: Counter[str]
    left_out: ReadReport


class ConversationDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """The samples of a LLaVA file that belong to a stage.

    Attributes:
        lengths: About how many tokens each sample has, [n].
        report: What was read and what was left out.

    Args:
        path: LLaVA json or jsonl.
        images: Folder that the file's images are in.
        stage: 'perceive' or 'reason': its samples, and those of no stage.
        model: Whose prompts and pixels are made.
        max_seq_len: Tokens of a conversation at most.
        out: Folder where images that cannot be read are named.

    Raises:
        BadDatasetError: The file cannot be read.
        ValueError: It has no sample of this stage.
    """

    def __init__(self, path: Path, images: Path, stage: str, model: LoadedModel, max_seq_len: int, out: Path) -> None:
        self._images, self._out = images, out
        self._encoder = ConversationEncoder(model.prompter, max_seq_len)
        self._preprocessing = model.preprocessing
        self.report = DatasetReport(Counter(), ReadReport())
        self._file = tempfile.TemporaryFile(dir=out)  # noqa: SIM115 - lives as long as the dataset
        self._places, self.lengths = self._index(path, stage, model.prompter.image_tokens)
        if not len(self.lengths):
            raise ValueError(f"{path}: has no sample that can be used for {stage!r} ({self.report.left_out.counts})")

    def _index(self, path: Path, stage: str, image_tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(offset and size of each sample in the scratch file, about how many tokens it has)."""
        places: list[tuple[int, int]] = []
        lengths: list[int] = []
        at = 0
        for sample in read_conversations(path, self.report.left_out):
            if sample.stage not in (stage, *MIXED):
                continue
            parts = [sample] if self._encoder.several_turns else _single_turns(sample)
            if why := next((why for part in parts if (why := self._encoder.misfit(part))), None):
                self.report.left_out.add(why, sample.sample_id)
                continue
            for part in parts:
                row = json.dumps(asdict(part)).encode()
                self._file.write(row)
                places.append((at, len(row)))
                at += len(row)
                characters = sum(len(turn.text) for turn in part.turns)
                lengths.append(image_tokens * len(part.images) + characters // CHARACTERS_PER_TOKEN)
            self.report.samples[sample.stage or MIXED[0]] += 1
        self._file.flush()
        return np.array(places, np.int64).reshape(-1, 2), np.array(lengths, np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def conversation(self, index: int) -> Conversation:
        """A sample as it was read."""
        at, size = (int(v) for v in self._places[index])
        raw = json.loads(os.pread(self._file.fileno(), size, at))  # processes share the file's position
        turns = tuple(Turn(**turn) for turn in raw["turns"])
        return Conversation(raw["sample_id"], tuple(raw["images"]), turns, raw["stage"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        tried = min(len(self), MAX_BAD_IN_A_ROW)
        for n in range(tried):
            if (made := self._made((index + n) % len(self))) is not None:
                return made
        raise ValueError(
            f"{tried} samples in a row cannot be used, such as {self.conversation(index).sample_id!r}; expected their "
            f"images in {self._images}; see {self._out / BAD_IMAGES}"
        )

    def _made(self, index: int) -> dict[str, Any] | None:
        """A sample's ids, labels and pixels (one tensor an image, in order); None, and named, where it is bad."""
        sample = self.conversation(index)
        at_fault = sample.sample_id
        try:
            encoded = self._encoder.encode(sample)
            if all(label == IGNORE for label in encoded.labels):
                raise ValueError("no turn fits into max_seq_len")
            pixels = []
            for at_fault in sample.images[: encoded.num_images]:
                pixels.append(self._preprocessing.pixels([read_image(self._images / at_fault)]))
        except (ProxqaError, OSError, ValueError) as error:
            self._name_bad(at_fault, error)
            return None
        return {"input_ids": encoded.ids, "labels": encoded.labels, "pixel_values": pixels}

    def _name_bad(self, name: str, error: Exception) -> None:
        log.warning("left out: %s: %s", name, error)
        with (self._out / BAD_IMAGES).open("a", encoding="utf-8") as file:  # appended whole: processes share it
            file.write(f"{name}\n")

    def bad(self) -> list[str]:
        """Names of what could not be used so far, in all processes."""
        path = self._out / BAD_IMAGES
        return sorted(set(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []


def _single_turns(sample: Conversation) -> list[Conversation]:
    """Each question of a conversation by itself, after the images that were shown before it."""
    made = []
    shown = 0
    for n, (question, answer) in enumerate(zip(sample.turns[::2], sample.turns[1::2], strict=False)):
        again = Turn(question.role, f"{IMAGE_MARK}\n" * shown + question.text)
        shown += question.text.count(IMAGE_MARK)
        made.append(Conversation(f"{sample.sample_id}#{n}", sample.images[:shown], (again, answer), sample.stage))
    return made


def length_grouped(lengths: NDArray[np.int64], batch_size: int, num_samples: int, seed: int) -> Iterator[int]:
    """Indices of samples, epoch after epoch: each once an epoch, those of one batch of about one length.

    Args:
        lengths: Of the samples, [n].
        batch_size: Samples of a step, of all processes together.
        num_samples: How many indices.
        seed: Of the order; an epoch's order depends on nothing else, so that training goes on where it was stopped.
    """
    given = 0
    epoch = 0
    while given < num_samples:
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(lengths))
        # 1. blocks of 50 batches are sorted by length, longest first; 2. batches are cut; 3. and shuffled
        block = 50 * batch_size
        blocks = [order[i : i + block] for i in range(0, len(order), block)]
        order = np.concatenate([b[np.argsort(-lengths[b], kind="stable")] for b in blocks])
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        whole = [b for b in batches if len(b) == batch_size]
        rest = [b for b in batches if len(b) < batch_size]  # last: every other batch stays one
        for n in rng.permutation(len(whole)):
            yield from (int(i) for i in whole[n][: num_samples - given])
            given = min(num_samples, given + batch_size)
        for batch in rest:
            yield from (int(i) for i in batch[: num_samples - given])
            given = min(num_samples, given + len(batch))
        epoch += 1


def blank_sample(model: LoadedModel) -> dict[str, Any]:
    """A blank image of which nothing is learnt, as `ConversationDataset` gives samples."""
    size, count = model.preprocessing.size, model.prompter.image_tokens
    ids, labels = [model.prompter.image_token_id] * count, [IGNORE] * count
    return {"input_ids": ids, "labels": labels, "pixel_values": [torch.zeros(1, 3, size, size)]}


def collate(
    samples: Sequence[dict[str, Any]], padding: int, blank: dict[str, Any] | None = None
) -> dict[str, torch.Tensor]:
    """A batch: ids, mask and labels [n, longest], padded on the right; pixels [images, 3, size, size], if any.

    Args:
        samples: As `ConversationDataset` gives them.
        padding: Token that rows are filled with.
        blank: Is put into a batch without images, where every batch must have some (`blank_sample`).
    """
    if blank is not None and not any(s["pixel_values"] for s in samples):
        samples = [*samples, blank]
    longest = max(len(s["input_ids"]) for s in samples)

    def padded(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([s[key] + [fill] * (longest - len(s[key])) for s in samples])

    batch = {"input_ids": padded("input_ids", padding), "labels": padded("labels", IGNORE)}
    batch["attention_mask"] = torch.tensor(
        [[1] * len(s["input_ids"]) + [0] * (longest - len(s["input_ids"])) for s in samples]
    )
    pixels = [p for s in samples for p in s["pixel_values"]]
    return batch | ({"pixel_values": torch.cat(pixels)} if pixels else {})
