"""Prompts as token ids, cut where the image ends: a prefix that all questions about an image share, and suffixes.

Promises: the same pieces are cut in training and in inference; text from outside is tokenised with special tokens
split, so that no name or question can speak in another role. Knows nothing of tensors or of what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from proxqa_core.errors import BadModelError
from proxqa_core.language.templates import CHOICES, DEPTH_LEAD, NOT_VISIBLE, REGION
from proxqa_core.llm.time_limit import TEMPLATE_TIMEOUT_S, TimeLimitError, within
from proxqa_core.types import Box

_SLOT = "PROXQAQUESTION"


@dataclass(frozen=True)
class Suffix:
    """What follows the prefix in one branch.

    Attributes:
        ids: Token ids.
        boxes: One for every region token among them, in order, in [0, 1] of the square input.
    """

    ids: tuple[int, ...]
    boxes: tuple[Box, ...] = ()

    def keys(self, image_token_id: int) -> list[int | Box]:
        """What tells its tokens apart: their ids, and the box of each region token."""
        boxes = iter(self.boxes)
        return [next(boxes) if i == image_token_id else i for i in self.ids]


class Prompter:
    """Cuts prompts for one tokenizer.

    Args:
        tokenizer: Of Hugging Face.
        image_token_id: The token that stands for a part of the image.
        image_tokens: How many of them an image has.

    Raises:
        BadModelError: The tokenizer or its chat template cannot be used.
    """

    def __init__(self, tokenizer: Any, image_token_id: int, image_tokens: int):
        self.tokenizer = tokenizer
        self.image_token_id = image_token_id
        self.image_tokens = image_tokens
        self._image = tokenizer.convert_ids_to_tokens(image_token_id)
        before, self._after_image_text, self._after_text = _cut_template(tokenizer, image_token_id)
        self.before_image = self._start(before)
        self._after_question = self._special(self._after_text)
        self._specials = set(tokenizer.get_added_vocab().values()) | set(tokenizer.all_special_ids)
        self.after_image = self._special(self._after_image_text)
        if any(self._joint(probe)[: len(self.after_image)] != self.after_image for probe in ("Which", "the", "?", "7")):
            self.after_image = []  # the tokenizer joins what is before a question with it: each suffix holds both
        self.prefix_length = len(self.before_image) + image_tokens + len(self.after_image)
        self._set_answer_tokens()

    def _special(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids) if text else []

    def _start(self, before: str) -> list[int]:
        """Ids of what is before the image, begun as the model's own processor begins them (with BOS, or not)."""
        text = before + self._image
        ids = self._special(text)
        bos = getattr(self.tokenizer, "bos_token", None)
        if bos and before.startswith(bos):  # the template has it already
            return ids[:-1]
        whole = list(self.tokenizer(text).input_ids)
        at = next((i for i in range(len(whole)) if whole[i : i + len(ids)] == ids), 0)
        return whole[:at] + ids[:-1]

    def _joint(self, question: str) -> list[int]:
        """Ids of all that follows the image, tokenised at once as the model's own processor does.

        Special tokens in a question make it another text: then its pieces are tokenised by themselves.
        """
        whole = self._special(self._image + self._after_image_text + question + self._after_text)[1:]
        expected = sum(i in self._specials for i in (*self._special(self._after_image_text), *self._after_question))
        if sum(i in self._specials for i in whole) == expected + question.count(self._image):
            return whole
        return [*self._special(self._after_image_text), *self._question_pieces(question.split(self._image))]

    def plain_ids(self, text: str) -> list[int]:
        """Ids of text from outside: nothing in it becomes a special token."""
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids) if text else []

    def _set_answer_tokens(self) -> None:
        """Find the tokens that answers are read from; BadModelError where the tokenizer does not split digits."""
        numbers = [self.plain_ids(f"{DEPTH_LEAD}{n:02d}") for n in range(100)]
        lead, digits = numbers[0][:-2], [numbers[11 * d][-1] for d in range(10)]
        for n, ids in enumerate(numbers):
            if ids != [*lead, digits[n // 10], digits[n % 10]]:
                raise BadModelError(f"the tokenizer encodes '0.{n:02d}' as {ids}; expected one token per digit")
        self.depth_lead = lead
        self.digits = digits
        self.not_visible = self.plain_ids(NOT_VISIBLE)
        # where a tokenizer starts every text with the same mark, the first token that differs decides
        self.decides = next(i for i, (a, b) in enumerate(zip(lead, self.not_visible, strict=False)) if a != b)
        base = self.plain_ids("Closer:")
        choices = [self.plain_ids("Closer:" + c) for c in CHOICES]
        if any(ids[: len(base)] != base or len(ids) != len(base) + 1 for ids in choices):
            raise BadModelError(f"the tokenizer encodes the choices {CHOICES} as {choices}; expected one token each")
        self.choices = [ids[-1] for ids in choices]

    def question(self, text: str, boxes: Sequence[Box] = (), lead: str = "") -> Suffix:
        """One question up to where its answer starts, or to the end of `lead`.

        Args:
            text: The question; may hold REGION, once per box.
            boxes: In [0, 1] of the model's square input.
            lead: The part of the answer that is given.

        Returns:
            What follows the prefix.

        Raises:
            ValueError: There are more or fewer boxes than places for them.
        """
        pieces = text.split(REGION)
        if len(pieces) != len(boxes) + 1:
            raise ValueError(f"question has {len(pieces) - 1} region places but {len(boxes)} boxes")
        # what is said is text: only the places of regions are image tokens
        if any(self._image in piece for piece in pieces):
            ids = self._pieces(pieces)
        else:
            ids = self._joint(self._image.join(pieces))
            shared = len(self.after_image)
            ids = ids[shared:] if ids[:shared] == self.after_image else self._pieces(pieces)
        return Suffix((*ids, *self.plain_ids(lead)), tuple(boxes))

    def _pieces(self, pieces: Sequence[str]) -> list[int]:
        """What follows the prefix, tokenised piece by piece."""
        lead = [] if self.after_image else self._special(self._after_image_text)
        return [*lead, *self._question_pieces(pieces)]

    def _question_pieces(self, pieces: Sequence[str]) -> list[int]:
        """Ids of a question and of what follows it, its pieces between regions tokenised by themselves."""
        ids: list[int] = []
        for n, piece in enumerate(pieces):
            ids += [self.image_token_id] * (n > 0) + self.plain_ids(piece)
        return [*ids, *self._after_question]


def _cut_template(tokenizer: Any, image_token_id: int) -> tuple[str, str, str]:
    """The chat template around one user turn → text before the image, between image and question, after it."""
    image = tokenizer.convert_ids_to_tokens(image_token_id)
    if not getattr(tokenizer, "chat_template", None):
        return "USER: ", "\n", " ASSISTANT:"  # the form LLaVA-1.5 was trained with
    from jinja2 import TemplateError

    parts: list[Any] = [{"type": "image"}, {"type": "text", "text": _SLOT}]
    text = ""
    for content in (parts, f"{image}\n{_SLOT}"):
        try:
            render = partial(
                tokenizer.apply_chat_template,
                [{"role": "user", "content": content}],
                tokenize=False,
                add_generation_prompt=True,
            )
            text = within(TEMPLATE_TIMEOUT_S, render)
        except (TimeLimitError, MemoryError, RecursionError) as error:
            why = str(error) if isinstance(error, TimeLimitError) else type(error).__name__
            raise BadModelError(f"the model's chat template cannot be used: it {why}") from error
        except (
            TypeError,
            ValueError,
            AttributeError,
            KeyError,
            TemplateError,
        ):  # this template wants the other kind of content
            continue
        if image in text and _SLOT in text:
            break
    if text.count(image) != 1 or text.count(_SLOT) != 1 or text.index(image) > text.index(_SLOT):
        raise BadModelError(
            f"the model's chat template does not put one image ({image!r}, token {image_token_id} of its config.json) "
            "before the question"
        )
    before, rest = text.split(image)
    between, after = rest.split(_SLOT)
    return before, between, after
