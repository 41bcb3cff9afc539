"""Conversations of a LLaVA file as what a model is trained on: token ids, labels, pixels.

Promises: the first turn has token for token the prompt of the engine (`proxqa_core.llm.prompts`), further turns those
of the model's chat template; only answers and their end are labelled. The file is read once, as a stream, and samples
by their place in a scratch file: 1.5 GB of conversations take a few MB of memory. A sample that cannot be used is
counted and named; an image that cannot be read is replaced by the next sample, and named.
"""

from __future__ import annotations

import itertools
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
from proxqa_core.errors import BadModelError, ProxqaError
from proxqa_core.llm.prompts import Prompter
from proxqa_core.model.loading import LoadedModel
from proxqa_core.vision.image_file import read_image

log = logging.getLogger(__name__)

IGNORE = -100
"""Label of a token that is not supervised."""
MIXED = ("mixed", "")
"""Samples of every stage: general instructions."""
CHARACTERS_PER_TOKEN = 4
"""About; only what goes into one batch depends on it."""
BAD_IMAGES = "bad_images.txt"
MAX_BAD_IN_A_ROW = 100
"""Samples after which the folder is taken for another one than that of the images."""


class ConversationEncoder:
    """Encodes conversations for one model.

    Attributes:
        several_turns: Whether the chat template can put one question after another; else each is asked by itself.

    Args:
        prompter: Of the model.
        max_seq_len: Tokens of a conversation at most.
    """

    def __init__(self, prompter: Prompter, max_seq_len: int) -> None:
        self.prompter = prompter
        self.max_seq_len = max_seq_len
        self._tokenizer = prompter.tokenizer
        self._image: str = self._tokenizer.convert_ids_to_tokens(prompter.image_token_id)
        self._ends = set(self._tokenizer.all_special_ids) | set(self._tokenizer.get_added_vocab().values())
        self.several_turns = self._only_adds()

    def encode(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """(token ids, labels) of a conversation; turns that do not fit any more are left out.

        Args:
            conversation: Of at most one image.

        Raises:
            BadModelError: The chat template cannot be used for several turns.
        """
        ids: list[int] = []
        labels: list[int] = []
        done = ""
        turns = [Turn(t.role, t.text.replace(IMAGE_MARK, "").strip()) for t in conversation.turns]
        for n in range(0, len(turns) - 1, 2):
            asked = self._render(turns[: n + 1], bool(conversation.images))
            told = self._render(turns[: n + 2], bool(conversation.images)) if self.several_turns else asked
            if not (asked.startswith(done) and told.startswith(asked)):
                raise BadModelError(
                    "the model's chat template changes earlier turns; expected one that only adds to them"
                )
            question = self._question(turns[n].text, asked[len(done) :], first=n == 0, image=bool(conversation.images))
            answer = self._answer(turns[n + 1].text, told[len(asked) :])
            if len(ids) + len(question) + len(answer[0]) > self.max_seq_len:
                break
            ids += question + answer[0]
            labels += [IGNORE] * len(question) + answer[1]
            done = told
        return ids, labels

    def _only_adds(self) -> bool:
        """Whether what the template makes of a conversation begins with what it makes of its first turns."""
        texts = ("one", "two", "three", "four")
        turns = [Turn("assistant" if n % 2 else "user", text) for n, text in enumerate(texts)]
        made = [self._render(turns[:n], image=False) for n in (1, 2, 3, 4)]
        return all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(made))

    def _question(self, text: str, piece: str, first: bool, image: bool) -> list[int]:
        """Ids of what comes before an answer."""
        if first and image:
            prompter = self.prompter
            start = [*prompter.before_image, *[prompter.image_token_id] * prompter.image_tokens, *prompter.after_image]
            return [*start, *prompter.question(text).ids]
        before, _, after = piece.rpartition(text)
        ids = [*self._ids(before), *self.prompter.plain_ids(text), *self._ids(after)]
        bos = self._tokenizer.bos_token_id
        adds_bos = first and bos is not None and self._tokenizer("").input_ids[:1] == [bos]
        return [bos, *ids] if adds_bos and ids[:1] != [bos] else ids

    def _answer(self, text: str, piece: str) -> tuple[list[int], list[int]]:
        """(ids, labels) of an answer and of what the template puts after it, up to whose end it is supervised."""
        answer = self.prompter.plain_ids(text)
        after = self._ids(piece.rpartition(text)[2])
        end = next((i for i, token in enumerate(after) if token in self._ends), None)
        if end is None:  # a template without an end of answers, as that of LLaVA-1.5
            after, end = [self._tokenizer.eos_token_id], 0
        return [*answer, *after], [*answer, *after[: end + 1], *[IGNORE] * (len(after) - end - 1)]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids) if text else []

    def _render(self, turns: Sequence[Turn], image: bool) -> str:
        """The turns as the model's chat template has them, up to where an answer begins or after one."""
        asks = turns[-1].role == "user"
        if not getattr(self._tokenizer, "chat_template", None):
            mark = f"{self._image}\n" if image else ""
            return "".join(
                f"USER: {mark if n == 0 else ''}{t.text} ASSISTANT:" if t.role == "user" else f" {t.text}"
                for n, t in enumerate(turns)
            )
        from jinja2 import TemplateError

        parts = [{"role": t.role, "content": [{"type": "text", "text": t.text}]} for t in turns]
        plain: list[dict[str, Any]] = [{"role": t.role, "content": t.text} for t in turns]
        if image:
            parts[0]["content"] = [{"type": "image"}, *parts[0]["content"]]
            plain[0]["content"] = f"{self._image}\n{turns[0].text}"
        for messages in (parts, plain):
            try:
                made: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
            except (TypeError, ValueError, AttributeError, KeyError, TemplateError):
                continue  # this template wants the other kind of content
            if turns[-1].text in made and (not image or self._image in made):
                return made
        raise BadModelError("the model's chat template cannot be used for conversations")


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
            if len(sample.images) > 1:
                self.report.left_out.add("more than one image", sample.sample_id)
                continue
            if not all(turn.text.replace(IMAGE_MARK, "").strip() for turn in sample.turns):
                self.report.left_out.add("empty turn", sample.sample_id)
                continue
            for part in [sample] if self._encoder.several_turns else _single_turns(sample):
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
            sample = self.conversation((index + n) % len(self))
            try:
                pixels = [self._pixels(name) for name in sample.images]
            except (ProxqaError, OSError) as error:
                self._name_bad(sample.images[0], error)
                continue
            ids, labels = self._encoder.encode(sample)
            if all(label == IGNORE for label in labels):
                self._name_bad(sample.sample_id, ValueError("no turn fits into max_seq_len"))
                continue
            return {"input_ids": ids, "labels": labels, "pixel_values": pixels}
        raise ValueError(
            f"{tried} samples in a row cannot be used, such as {self.conversation(index).sample_id!r}; expected their "
            f"images in {self._images}; see {self._out / BAD_IMAGES}"
        )

    def _pixels(self, name: str) -> torch.Tensor:
        return self._preprocessing.pixels([read_image(self._images / name)])

    def _name_bad(self, name: str, error: Exception) -> None:
        log.warning("left out: %s: %s", name, error)
        with (self._out / BAD_IMAGES).open("a", encoding="utf-8") as file:  # appended whole: processes share it
            file.write(f"{name}\n")

    def bad(self) -> list[str]:
        """Names of what could not be used so far, in all processes."""
        path = self._out / BAD_IMAGES
        return sorted(set(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []


def _single_turns(sample: Conversation) -> list[Conversation]:
    """Each question of a conversation by itself, with the image."""
    pairs = zip(sample.turns[::2], sample.turns[1::2], strict=False)
    return [Conversation(f"{sample.sample_id}#{n}", sample.images, pair, sample.stage) for n, pair in enumerate(pairs)]


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


def collate(samples: Sequence[dict[str, Any]], padding: int) -> dict[str, torch.Tensor]:
    """A batch: ids, mask and labels [n, longest], padded on the right; pixels [images, 3, size, size], if any."""
    longest = max(len(s["input_ids"]) for s in samples)

    def padded(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([s[key] + [fill] * (longest - len(s[key])) for s in samples])

    batch = {"input_ids": padded("input_ids", padding), "labels": padded("labels", IGNORE)}
    batch["attention_mask"] = torch.tensor(
        [[1] * len(s["input_ids"]) + [0] * (longest - len(s["input_ids"])) for s in samples]
    )
    pixels = [p for s in samples for p in s["pixel_values"]]
    return batch | ({"pixel_values": torch.cat(pixels)} if pixels else {})
