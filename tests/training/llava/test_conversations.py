"""What a LLaVA is trained on: the engine's own prompt, answers alone supervised, every sample once an epoch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.datasets.llava import Conversation, Turn
from proxqa_core.llm.prompts import Prompter
from proxqa_core.model.loading import LoadedModel
from proxqa_training.llava.conversations import (
    IGNORE,
    ConversationDataset,
    ConversationEncoder,
    collate,
    length_grouped,
)

# llava-hf/llava-1.5-7b-hf's, which ends no answer
LLAVA_1_5 = (
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}"
    "{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{% generation %}{{ c['text'] + ' ' }}{% endgeneration %}"
    "{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
ONE_TURN = "{% for m in messages %}USER: {{ m['content'] }}{% endfor %} ASSISTANT:"
QUESTION, ANSWER = "How far is the chair?", "0.37"
TWO_TURNS = (
    *(Turn("user", f"<image>\n{QUESTION}"), Turn("assistant", ANSWER)),
    *(Turn("user", "And <|im_end|> the dog?"), Turn("assistant", "not visible")),
)


@pytest.fixture(params=["own", "llava-1.5", "none"])
def prompter(pristine: LoadedModel, request: pytest.FixtureRequest) -> Prompter:
    return with_template(pristine, {"own": "", "llava-1.5": LLAVA_1_5, "none": None}[request.param])


def with_template(model: LoadedModel, template: str | None) -> Prompter:
    import copy

    tokenizer = copy.deepcopy(model.prompter.tokenizer)
    if template != "":
        tokenizer.chat_template = template
    return Prompter(tokenizer, model.prompter.image_token_id, model.prompter.image_tokens)


def test_the_first_question_is_the_engines_and_answers_alone_are_learnt(prompter: Prompter) -> None:
    encoder = ConversationEncoder(prompter, 4096)
    assert encoder.several_turns
    ids, labels = encoder.encode(Conversation("1", ("a.png",), TWO_TURNS))
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


def test_turns_that_do_not_fit_are_left_out(pristine: LoadedModel) -> None:
    whole, _ = ConversationEncoder(pristine.prompter, 4096).encode(Conversation("1", ("a.png",), TWO_TURNS))
    cut, labels = ConversationEncoder(pristine.prompter, len(whole) - 1).encode(
        Conversation("1", ("a.png",), TWO_TURNS)
    )
    assert (
        whole[: len(cut)] == cut
        and 0 < len(cut) < len(whole)
        and ANSWER in pristine.prompter.tokenizer.decode([label for label in labels if label != IGNORE])
    )


def test_text_alone_has_no_image(prompter: Prompter) -> None:
    ids, labels = ConversationEncoder(prompter, 4096).encode(
        Conversation("1", (), (Turn("user", "Two and two?"), Turn("assistant", "Four.")))
    )
    assert prompter.image_token_id not in ids and "Four." in prompter.tokenizer.decode(
        [v for v in labels if v != IGNORE]
    )


def _about_two(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """The same conversation about two images."""
    first = turns[0] | {"value": "<image>\n<image>\n" + turns[0]["value"].replace("<image>", "")}
    return [first, *turns[1:]]


def test_a_template_of_one_turn_makes_a_sample_of_each_question(pristine: LoadedModel, tmp_path: Path) -> None:
    import dataclasses

    model = dataclasses.replace(pristine, prompter=with_template(pristine, ONE_TURN))
    rows = [{"id": "a", "image": "a.png", "stage": "perceive", "conversations": []}]
    rows[0]["conversations"] = [{"from": "human" if t.role == "user" else "gpt", "value": t.text} for t in TWO_TURNS]
    rows += [{"id": "b", "image": ["a.png", "b.png"], "conversations": _about_two(rows[0]["conversations"])}]
    rows += [{"id": "c", "image": "a.png", "stage": "reason", "conversations": rows[0]["conversations"]}]
    (tmp_path / "mix.json").write_text(json.dumps(rows))
    data = ConversationDataset(tmp_path / "mix.json", tmp_path, "perceive", model, 4096, tmp_path)
    assert len(data) == 2 and data.report.samples == {"perceive": 1}
    assert data.report.left_out.lines() == ["1 x more than one image: b"]
    assert [data.conversation(i).turns[1].text for i in (0, 1)] == [ANSWER, "not visible"]
    with pytest.raises(ValueError, match="2 samples in a row cannot be used"):
        data[0]  # there is no image at all
    assert data.bad() == ["a.png"]
    for part in (data.conversation(0), data.conversation(1)):
        ids, _ = ConversationEncoder(model.prompter, 4096).encode(part)
        assert ids.count(model.prompter.image_token_id) == model.prompter.image_tokens


def test_a_batch_is_padded_on_the_right() -> None:
    batch = collate(
        [
            {"input_ids": [5, 6, 7], "labels": [IGNORE, 6, 7], "pixel_values": []},
            {"input_ids": [5], "labels": [5], "pixel_values": []},
        ],
        9,
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 9, 9]] and "pixel_values" not in batch
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORE, 6, 7], [5, IGNORE, IGNORE]]


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31)
)
def test_every_sample_comes_once_an_epoch_and_the_order_is_the_seeds(
    lengths: list[int], batch: int, epochs: int, seed: int
) -> None:
    sizes = np.array(lengths, np.int64)
    count = len(lengths) * epochs
    order = list(length_grouped(sizes, batch, count, seed))
    assert len(order) == count
    for epoch in range(epochs):
        assert sorted(order[epoch * len(lengths) : (epoch + 1) * len(lengths)]) == list(range(len(lengths)))
    shorter = list(length_grouped(sizes, batch, max(1, count // 2), seed))
    assert order[: len(shorter)] == shorter


def test_samples_of_a_batch_have_about_one_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 6400)
    order = np.array(list(length_grouped(lengths, 16, 6400, 0)))
    spread = np.ptp(lengths[order].reshape(-1, 16), axis=1).mean()
    assert spread < 60 and not np.array_equal(order, np.argsort(lengths))
