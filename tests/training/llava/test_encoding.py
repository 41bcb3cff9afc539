"""Token ids of conversations: the engine's own prompt, the processor's places of images, answers alone supervised."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPImageProcessor, LlavaProcessor

from proxqa_core.datasets.llava import IMAGE_MARK, Conversation, Turn
from proxqa_core.llm.prompts import Prompter
from proxqa_core.model.loading import LoadedModel
from proxqa_training.llava.encoding import IGNORE, ConversationEncoder
from tests.core.llm.test_prompts import byte_level, sentencepiece_like
from tests.core.tiny_llava import SIDE

# llava-hf/llava-1.5-7b-hf's, which ends no answer
LLAVA_1_5 = (
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}"
    "{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{% generation %}{{ c['text'] + ' ' }}{% endgeneration %}"
    "{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
# as llava-hf/llava-interleave-qwen-0.5b-hf's: images first, then text; its turns do not begin as it asks for one
INTERLEAVE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' }}"
    "{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ '\n' + c['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# every turn ends by itself
TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '<image>' }}{% else %}{{ c['text'] | trim }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# wants text, and would print a list of parts
AS_TEXT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} ASSISTANT:{% else %}"
    " {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
# has images in the first turn alone
FIRST_ALONE = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% elif m == messages[0] %}<image>{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
ONE_TURN = "{% for m in messages %}USER: {{ m['content'] }}{% endfor %} ASSISTANT:"
QUESTION, ANSWER = "How far is the chair?", "0.37"
TWO_TURNS = (
    *(Turn("user", f"<image>\n{QUESTION}"), Turn("assistant", ANSWER)),
    *(Turn("user", "And <|im_end|> the dog?"), Turn("assistant", "not visible")),
)
IMAGE_TOKENS = (SIDE // 14) ** 2
SEVERAL = {
    "in front": ("<image>\n<image>\nWhich room has the chair?", "The first.", "And the dog?", "None."),
    "between words": ("Image 1: <image>\nImage 2: <image> what moved?", "The chair.", "Sure?", "Yes."),
    "in a later turn": ("<image>\nA chair?", "Yes.", "And here <image>?", "No.", "<image>\nHere?", "Yes."),
    "without words": ("<image>", "A chair.", "<image><image>", "Two dogs."),
}


@pytest.fixture(params=["own", "llava-1.5", "none"])
def prompter(pristine: LoadedModel, request: pytest.FixtureRequest) -> Prompter:
    return with_template(pristine, {"own": "", "llava-1.5": LLAVA_1_5, "none": None}[request.param])


def with_template(model: LoadedModel, template: str | None) -> Prompter:
    tokenizer = copy.deepcopy(model.prompter.tokenizer)
    if template != "":
        tokenizer.chat_template = template
    return Prompter(tokenizer, model.prompter.image_token_id, model.prompter.image_tokens)


@functools.cache
def tokenizer_of(kind: str) -> Any:
    """One for all tests of a kind; its chat template is set anew by each."""
    return byte_level() if kind == "byte-level" else sentencepiece_like(kind)


def encoder_of(tokenizer: Any, template: str | None, max_seq_len: int = 4096) -> ConversationEncoder:
    tokenizer.chat_template = template
    image = tokenizer.convert_tokens_to_ids(IMAGE_MARK)
    return ConversationEncoder(Prompter(tokenizer, image, IMAGE_TOKENS), max_seq_len)


def conversation(*told: str) -> Conversation:
    """Of as many images as are marked."""
    turns = tuple(Turn("assistant" if n % 2 else "user", text) for n, text in enumerate(told))
    return Conversation("1", tuple(f"{n}.png" for n in range(sum(t.count(IMAGE_MARK) for t in told))), turns)


def processors_ids(tokenizer: Any, told: tuple[str, ...]) -> list[int]:
    """What Hugging Face's processor makes of turns: images in front of a text as parts, others marked in the text."""
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size)
    processor = LlavaProcessor(images, tokenizer, patch_size=14, vision_feature_select_strategy="full")
    messages = []
    for n, text in enumerate(told):
        front = text.count(IMAGE_MARK) if text.startswith(IMAGE_MARK) else 0
        rest = text.replace(IMAGE_MARK, "").strip() if front else text
        parts: list[dict[str, str]] = [{"type": "image"}] * front + ([{"type": "text", "text": rest}] if rest else [])
        messages.append({"role": "assistant" if n % 2 else "user", "content": parts})
    text = processor.apply_chat_template(
        messages, chat_template=tokenizer.chat_template, add_generation_prompt=len(told) % 2 == 1
    )
    pictures = [np.zeros((SIDE, SIDE, 3), np.uint8)] * text.count(IMAGE_MARK)
    (ids,) = processor(text=text, images=pictures)["input_ids"]
    return list(ids)


def test_the_first_question_is_the_engines_and_answers_alone_are_learnt(prompter: Prompter) -> None:
    encoder = ConversationEncoder(prompter, 4096)
    assert encoder.several_turns
    encoded = encoder.encode(Conversation("1", ("a.png",), TWO_TURNS))
    ids, labels = encoded.ids, encoded.labels
    image = [prompter.image_token_id] * prompter.image_tokens
    asked = [*prompter.before_image, *image, *prompter.after_image, *prompter.question(QUESTION).ids]
    assert ids[: len(asked)] == asked and len(ids) == len(labels)
    end = prompter.tokenizer.eos_token_id
    first, second = prompter.plain_ids(ANSWER), prompter.plain_ids("not visible")
    assert [label for label in labels if label != IGNORE] == [*first, end, *second, end]
    assert labels[: len(asked)] == [IGNORE] * len(asked) and ids[len(asked) : len(asked) + len(first)] == first
    assert all(label in (IGNORE, token) for token, label in zip(ids, labels, strict=True))
    # what is asked is text: no token that ends a turn comes out of it
    around = prompter.before_image.count(end) + 2 * prompter.question(QUESTION).ids.count(end)
    assert ids.count(end) == 2 + around


def test_text_alone_has_no_image(prompter: Prompter) -> None:
    encoded = ConversationEncoder(prompter, 4096).encode(conversation("Two and two?", "Four."))
    assert prompter.image_token_id not in encoded.ids and encoded.num_images == 0
    assert "Four." in prompter.tokenizer.decode([v for v in encoded.labels if v != IGNORE])


@pytest.mark.parametrize("told", SEVERAL.values(), ids=SEVERAL)
@pytest.mark.parametrize("kind", ["byte-level", "legacy", "first"])
@pytest.mark.parametrize("template", [LLAVA_1_5, INTERLEAVE, TURNS], ids=["llava-1.5", "interleave", "turns"])
def test_several_images_are_where_the_processor_has_them(kind: str, template: str, told: tuple[str, ...]) -> None:
    tokenizer = tokenizer_of(kind)
    encoder = encoder_of(tokenizer, template)
    assert encoder.several_turns == (template != INTERLEAVE)
    told = told if encoder.several_turns else told[:2]
    encoded = encoder.encode(conversation(*told))
    first = next(n for n, label in enumerate(encoded.labels) if label != IGNORE)
    assert encoded.ids[:first] == processors_ids(tokenizer, told[:1])
    assert encoded.num_images == sum(text.count(IMAGE_MARK) for text in told)
    assert encoded.ids.count(encoder.prompter.image_token_id) == encoded.num_images * IMAGE_TOKENS
    if (kind, template) == ("byte-level", TURNS):  # no mark of a word's begin, an end of every answer
        assert encoded.ids == processors_ids(tokenizer, told)
    learnt = tokenizer.decode([label for label in encoded.labels if label != IGNORE], skip_special_tokens=True)
    assert re.sub("[ \u2581]", "", learnt) == re.sub(" ", "", "".join(told[1::2]))


def test_a_template_of_texts_gets_texts() -> None:
    tokenizer = tokenizer_of("first")
    encoder = encoder_of(tokenizer, AS_TEXT)
    for told in SEVERAL.values():
        shown = tokenizer.decode(encoder.encode(conversation(*told)).ids)
        assert "type" not in shown and shown.count(IMAGE_MARK) == IMAGE_TOKENS * len(conversation(*told).images)
    assert "type" not in tokenizer.decode(encoder.encode(conversation("Two and two?", "Four.")).ids)


def test_turns_that_do_not_fit_take_their_images_along() -> None:
    told = SEVERAL["in a later turn"]
    whole = encoder_of(tokenizer_of("byte-level"), TURNS).encode(conversation(*told))
    cut = encoder_of(tokenizer_of("byte-level"), TURNS, len(whole.ids) - 1).encode(conversation(*told))
    assert (whole.num_images, cut.num_images) == (3, 2) and whole.ids[: len(cut.ids)] == cut.ids
    nothing = encoder_of(tokenizer_of("byte-level"), TURNS, IMAGE_TOKENS + 1).encode(conversation(*told))
    assert (nothing.ids, nothing.labels, nothing.num_images) == ([], [], 0)


@pytest.mark.parametrize(
    ("told", "template", "why"),
    [
        (SEVERAL["in a later turn"], FIRST_ALONE, "images where the model's chat template cannot have them"),
        (SEVERAL["in front"], FIRST_ALONE, None),
        (("<image>" * 9 + "?", "Nine."), TURNS, "images that do not fit into max_seq_len"),
        (("<image>\nA chair?", " "), TURNS, "empty turn"),
        ((" ", "Yes."), TURNS, "empty turn"),
        (SEVERAL["without words"], TURNS, None),
    ],
)
def test_what_cannot_be_learnt_is_told(told: tuple[str, ...], template: str, why: str | None) -> None:
    assert encoder_of(tokenizer_of("byte-level"), template, 9 * IMAGE_TOKENS).misfit(conversation(*told)) == why


words = st.text(st.sampled_from("ab <|im_end|>\n.é"), min_size=1, max_size=12).filter(str.strip)
pieces = st.sampled_from(["<image>", "<|im_end|>", "<|im_start|>user", "PROXQA0TEXT", "user", "\n"]) | words
answers = st.lists(words, min_size=1, max_size=2).map("".join).filter(lambda text: IMAGE_MARK not in text)


@pytest.fixture(scope="module")
def encoder() -> ConversationEncoder:
    return encoder_of(byte_level(), TURNS)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.lists(pieces, max_size=5).map("".join), answers), min_size=1, max_size=4))
def test_whatever_is_said_stays_text(encoder: ConversationEncoder, exchanges: list[tuple[str, str]]) -> None:
    told = [text for asked, said in exchanges for text in ("Q" + asked, said)]
    encoded = encoder.encode(conversation(*told))
    image = encoder.prompter.image_token_id
    assert encoded.ids.count(image) == IMAGE_TOKENS * encoded.num_images
    assert encoded.num_images == sum(text.count(IMAGE_MARK) for text in told)
    start, end = (encoder.prompter.tokenizer.convert_tokens_to_ids(f"<|im_{part}|>") for part in ("start", "end"))
    assert encoded.ids.count(start) == encoded.ids.count(end) == len(told)
    assert all(label in (IGNORE, token) for token, label in zip(encoded.ids, encoded.labels, strict=True))
    learnt = encoder.prompter.tokenizer.decode([label for label in encoded.labels if label not in (IGNORE, end)])
    assert learnt == "".join(answer.strip() for answer in told[1::2])
