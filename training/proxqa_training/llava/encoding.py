"""Conversations as one model's token ids and labels.

Promises: a first question about one image has token for token the prompt of the engine (`proxqa_core.llm.prompts`), all
others that of the model's own processor, every image at its own place; only answers and their end are labelled; what
is said stays text, whatever it holds. Knows nothing of files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proxqa_core.datasets.llava import IMAGE_MARK, Conversation
from proxqa_core.errors import BadModelError
from proxqa_core.llm.prompts import Prompter

IGNORE = -100
"""Label of a token that is not supervised."""


@dataclass(frozen=True)
class Encoded:
    """A conversation as one model is trained on it.

    Attributes:
        ids: Token ids; an image has as many as it has places in the model's input.
        labels: The same, IGNORE where nothing is learnt.
        num_images: How many of the conversation's images are in them: the first ones.
    """

    ids: list[int]
    labels: list[int]
    num_images: int


@dataclass(frozen=True)
class _Content:
    """What a turn says.

    Attributes:
        images_before: Images before all of its text, which the chat template sets in its own way.
        texts: Its text, cut where an image stands between words.
    """

    images_before: int
    texts: tuple[str, ...]

    @property
    def num_images(self) -> int:
        """In the whole turn."""
        return self.images_before + max(0, len(self.texts) - 1)


_Layout = tuple[tuple[int, int], ...]
"""Of each turn how many images are before its text, and into how many texts that is cut: all a template sees."""
_SLOT, _SLOT_OF = re.compile(r"PROXQA(\d+)TEXT"), "PROXQA{}TEXT"


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
        self._specials = set(self._tokenizer.all_special_ids) | set(self._tokenizer.get_added_vocab().values())
        self._cuts: dict[_Layout, list[tuple[str, str]]] = {}
        self._wants_parts = True
        self._wants_parts = self._takes_parts()
        self.several_turns = self._only_adds()

    def encode(self, conversation: Conversation) -> Encoded:
        """A conversation's tokens; turns that do not fit any more are left out, with their images.

        Args:
            conversation: With one mark an image. A single one that is marked in the first question goes before it, as
                the engine asks. Images before all text of a turn stand as the chat template sets them, others where
                they are marked.

        Raises:
            BadModelError: The chat template cannot be used for these turns.
            ValueError: A text holds the model's own token of an image.
        """
        contents = _contents(conversation)
        texts = [text for content in contents for text in content.texts]
        ids: list[int] = []
        labels: list[int] = []
        num_images = 0
        for n, (asked, told) in enumerate(self._cut(_layout(contents))):
            content = contents[2 * n]
            if n == 0 and len(conversation.images) == content.images_before == len(content.texts) == 1:
                question = self._engines_question(content.texts[0])
            else:
                question = self._question(asked, texts, first=n == 0)
            if question.count(self.prompter.image_token_id) != content.num_images * self.prompter.image_tokens:
                raise ValueError(f"a text holds {self._image!r}, which stands for an image in this model")
            answer = self._answer(contents[2 * n + 1].texts[0], told)
            if len(ids) + len(question) + len(answer[0]) > self.max_seq_len:
                break
            ids += question + answer[0]
            labels += [IGNORE] * len(question) + answer[1]
            num_images += content.num_images
        return Encoded(ids, labels, num_images)

    def misfit(self, conversation: Conversation) -> str | None:
        """Why a conversation cannot be learnt, as far as that can be told without its tokens; None where it can be."""
        contents = _contents(conversation)
        if not all(any(content.texts) or content.num_images for content in contents):
            return "empty turn"
        if contents[0].num_images * self.prompter.image_tokens >= self.max_seq_len:
            return "images that do not fit into max_seq_len"
        try:
            self._cut(_layout(contents))
        except BadModelError:
            return "images where the model's chat template cannot have them"
        return None

    def _takes_parts(self) -> bool:
        """Whether the chat template takes contents as lists of parts; one that wants text may print the list."""
        made = next(self._rendered([_SLOT_OF.format(0)], [1]), "")
        return self._marks(made) == [self._image, _SLOT_OF.format(0)]

    def _only_adds(self) -> bool:
        """Whether what the template makes of a conversation begins with what it makes of its first turns."""
        made = [self._render(((0, 1),) * n) for n in (1, 2, 3, 4)]
        return all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(made))

    def _cut(self, layout: _Layout) -> list[tuple[str, str]]:
        """What the template makes of each question, all before it included, and of each answer; slots for the texts."""
        if layout in self._cuts:
            return self._cuts[layout]
        done = ""
        made = []
        for n in range(0, len(layout) - 1, 2):
            asked = self._render(layout[: n + 1])
            told = self._render(layout[: n + 2]) if self.several_turns else asked
            if not (asked.startswith(done) and told.startswith(asked)):
                raise BadModelError(
                    "the model's chat template changes earlier turns; expected one that only adds to them"
                )
            made.append((asked[len(done) :], told[len(asked) :]))
            done = told
        self._cuts[layout] = made
        return made

    def _engines_question(self, text: str) -> list[int]:
        """Ids of a first question about one image, as the engine asks it."""
        prompter = self.prompter
        start = [*prompter.before_image, *[prompter.image_token_id] * prompter.image_tokens, *prompter.after_image]
        return [*start, *prompter.question(text).ids]

    def _question(self, piece: str, texts: Sequence[str], first: bool) -> list[int]:
        """Ids of what comes before an answer, with all places of its images."""
        image = self.prompter.image_token_id
        ids = [i for i in self._filled(piece, texts) for _ in range(self.prompter.image_tokens if i == image else 1)]
        bos = self._tokenizer.bos_token_id
        adds_bos = first and bos is not None and self._tokenizer("").input_ids[:1] == [bos]
        return [bos, *ids] if adds_bos and ids[:1] != [bos] else ids

    def _filled(self, piece: str, texts: Sequence[str]) -> list[int]:
        """Ids of a piece of the template with the texts in its slots, at once, as the model's own processor has them.

        Where a text would become special tokens, everything is tokenised by itself instead, so that it stays text.
        """
        parts = _SLOT.split(piece)  # template, number of a slot, template, …
        template, said = parts[::2], [texts[int(n)] for n in parts[1::2]]
        whole = self._ids("".join(itertools.chain(*zip(template, [*said, ""], strict=True))))
        by_itself = [self._ids(text) for text in template]
        expected = [i for ids in by_itself for i in ids if i in self._specials]
        if [i for i in whole if i in self._specials] == expected:
            return whole
        apart = zip(by_itself, [*map(self.prompter.plain_ids, said), []], strict=True)
        return [i for pair in apart for ids in pair for i in ids]

    def _answer(self, text: str, piece: str) -> tuple[list[int], list[int]]:
        """(ids, labels) of an answer and of what the template puts after it, up to whose end it is supervised."""
        answer = self.prompter.plain_ids(text)
        after = self._ids(_SLOT.split(piece)[-1])
        end = next((i for i, token in enumerate(after) if token in self._specials), None)
        if end is None:  # a template without an end of answers, as that of LLaVA-1.5
            after, end = [self._tokenizer.eos_token_id], 0
        return [*answer, *after], [*answer, *after[: end + 1], *[IGNORE] * (len(after) - end - 1)]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids) if text else []

    def _render(self, layout: _Layout) -> str:
        """Turns as the model's chat template has them, slots for texts, up to where an answer begins or after one.

        Raises:
            BadModelError: The template cannot have texts and images in this order.
        """
        numbers = itertools.count()
        said = [self._image.join(_SLOT_OF.format(next(numbers)) for _ in range(cut)) for _, cut in layout]
        before = [images for images, _ in layout]
        turns = zip(said, before, strict=True)
        order = [mark for text, n in turns for mark in [*[self._image] * n, *self._marks(text)]]
        for made in self._rendered(said, before):
            if self._marks(made) == order:
                return made
        raise BadModelError("the model's chat template cannot be used for conversations")

    def _marks(self, text: str) -> list[str]:
        """The images and slots in a text, in order."""
        return re.findall(f"{re.escape(self._image)}|{_SLOT.pattern.replace('(', '(?:')}", text)

    def _rendered(self, said: Sequence[str], before: Sequence[int]) -> Iterator[str]:
        """What the template makes of turns, by each kind of content that it may want."""
        whole = [f"{self._image}\n" * n + text for text, n in zip(said, before, strict=True)]
        if not getattr(self._tokenizer, "chat_template", None):
            yield "".join(f"USER: {t} ASSISTANT:" if n % 2 == 0 else f" {t}" for n, t in enumerate(whole))
            return
        from jinja2 import TemplateError

        parts = [
            [*[{"type": "image"}] * n, *([{"type": "text", "text": text}] if text else [])]
            for text, n in zip(said, before, strict=True)
        ]
        for contents in (parts, whole) if self._wants_parts else (whole,):
            messages = [{"role": ("user", "assistant")[n % 2], "content": c} for n, c in enumerate(contents)]
            try:
                yield self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=len(said) % 2 == 1
                )
            except (TypeError, ValueError, AttributeError, KeyError, TemplateError):
                continue  # this template wants the other kind of content


def _contents(conversation: Conversation) -> list[_Content]:
    """What each turn says; of the user's last question without an answer nothing comes."""
    turns = conversation.turns[: len(conversation.turns) // 2 * 2]
    contents = [_content(turn.text) for turn in turns]
    if len(conversation.images) == contents[0].num_images == 1:
        contents[0] = _Content(1, _texts(turns[0].text.replace(IMAGE_MARK, "")))
    return contents


def _content(text: str) -> _Content:
    pieces = text.strip().split(IMAGE_MARK)
    if not any(piece.strip() for piece in pieces[:-1]):  # nothing is said before the last image
        return _Content(len(pieces) - 1, _texts(pieces[-1]))
    return _Content(0, tuple(pieces))


def _texts(text: str) -> tuple[str, ...]:
    return (text.strip(),) if text.strip() else ()


def _layout(contents: Sequence[_Content]) -> _Layout:
    return tuple((content.images_before, len(content.texts)) for content in contents)
