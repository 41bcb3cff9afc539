"""What a LLaVA is trained on: every image at its place, what is bad named, every sample once an epoch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from proxqa_core.model.loading import NO_ADAPTER, LoadedModel, load
from proxqa_core.vision.image_file import read_image
from proxqa_training.llava.conversations import ConversationDataset, blank_sample, collate, length_grouped
from proxqa_training.llava.encoding import IGNORE
from tests.core.tiny_llava import save_llava
from tests.training.llava.test_encoding import ANSWER, LLAVA_1_5, ONE_TURN, TWO_TURNS, with_template

COLOURS = ("red", "green", "blue")


def row(name: str, images: list[str], *told: str, stage: str = "perceive") -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(told)]
    return {"id": name, "image": images, "stage": stage, "conversations": turns}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(str(save_llava(tmp_path_factory.mktemp("llava"))), NO_ADAPTER, device="cpu", dtype="float32")


@pytest.fixture
def made(tmp_path: Path, tiny: LoadedModel) -> Callable[..., ConversationDataset]:
    """Makes a dataset of samples; there are images red.png, green.png and blue.png."""
    for n, name in enumerate(COLOURS):
        Image.fromarray(np.full((64, 64, 3), 255 * np.eye(3)[n], np.uint8)).save(tmp_path / f"{name}.png")

    def make(*rows: dict[str, Any], template: str = LLAVA_1_5, max_seq_len: int = 4096) -> ConversationDataset:
        (tmp_path / "mix.json").write_text(json.dumps(rows))
        prompter = with_template(tiny, template)
        model = dataclasses.replace(tiny, make_prompter=lambda: prompter)
        return ConversationDataset(tmp_path / "mix.json", tmp_path, "perceive", model, max_seq_len, tmp_path)

    return make


def test_a_template_of_one_turn_makes_a_sample_of_each_question(made: Callable[..., ConversationDataset]) -> None:
    told = [turn.text for turn in TWO_TURNS]
    about_two = ("<image>\nRed?", "Yes.", "And <image>?", "No.", "Sure?", "Yes.")
    data = made(
        row("a", ["none.png"], *told),
        row("b", ["red.png", "blue.png"], *about_two),
        row("c", ["red.png"], *told, stage="reason"),
        template=ONE_TURN,
    )
    assert len(data) == 5 and data.report.samples == {"perceive": 2} and not data.report.left_out.lines()
    assert [data.conversation(i).turns[1].text for i in (0, 1)] == [ANSWER, "not visible"]
    # each question comes after the images that were shown before it
    assert [data.conversation(i).images for i in (2, 3, 4)] == [("red.png",), *[("red.png", "blue.png")] * 2]
    assert [len(data[i]["pixel_values"]) for i in (2, 3, 4)] == [1, 2, 2]
    assert data.conversation(4).turns[0].text == "<image>\n<image>\nSure?"
    assert data[0]["labels"] == data[2]["labels"] and data.bad() == [
        "none.png"
    ]  # replaced by the next that can be used


def test_several_images_come_each_at_its_place(tiny: LoadedModel, made: Callable[..., ConversationDataset]) -> None:
    """The embeddings that the language model gets are those of each image by itself, in the places of its tokens."""
    asked = ("Image 1: <image>\nImage 2: <image> which is blue?", "The second.", "And <image>?", "No.")
    data = made(
        row("a", ["red.png", "blue.png", "green.png"], *asked),
        row("text", [], "Two and two?", "Four."),
        row("b", ["green.png"], "<image>\nBlue?", "No."),
    )
    batch = collate([data[0], data[1], data[2]], 0)
    assert batch["pixel_values"].shape[0] == 4 and not data.report.left_out.lines() and not data.bad()
    got: list[torch.Tensor] = []
    language_model = tiny.llava.model.language_model
    hook = language_model.register_forward_pre_hook(
        lambda module, arguments, options: got.append(options["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        tiny.llava(**batch)
        hook.remove()
        pixels = {name: tiny.preprocessing.pixels([read_image(data._images / f"{name}.png")]) for name in COLOURS}
        alone = {name: tiny.llava.get_image_features(pixels[name]).pooler_output[0] for name in COLOURS}
    places = batch["input_ids"] == tiny.prompter.image_token_id
    assert torch.allclose(got[0][places], torch.cat([alone[n] for n in ("red", "blue", "green", "green")]), atol=1e-5)
    assert [int(n) for n in places.sum(1)] == [3 * len(alone["red"]), 0, len(alone["red"])]


def test_a_blank_image_in_a_batch_without_images_changes_no_gradient(
    tiny: LoadedModel, made: Callable[..., ConversationDataset]
) -> None:
    data = made(row("text", [], "Two and two?", "Four."), row("a", ["red.png"], "<image>\nRed?", "Yes."))
    blank = blank_sample(tiny)
    assert collate([data[0], data[1]], 0, blank)["pixel_values"].shape[0] == 1  # that has one
    trained = [*tiny.llava.model.multi_modal_projector.parameters(), *tiny.llava.lm_head.parameters()]
    losses = []
    for batch in (collate([data[0]], 0), collate([data[0]], 0, blank)):
        for parameter in trained:
            parameter.requires_grad_(True).grad = None
        loss = tiny.llava(**batch).loss
        loss.backward()
        losses.append((float(loss.detach()), trained[-1].grad.clone()))
    assert batch["pixel_values"].shape[0] == 1 and len(batch["input_ids"]) == 2
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-5)
    assert torch.allclose(losses[0][1], losses[1][1], atol=1e-5)
    assert all(float(p.grad.abs().max()) == 0 for p in tiny.llava.model.multi_modal_projector.parameters())


def test_bad_samples_of_several_images_are_counted_and_named(made: Callable[..., ConversationDataset]) -> None:
    two = "<image>\n<image>\nWhich is red?"
    data = made(
        row("good", ["red.png", "blue.png"], two, "The first."),
        row("one too many", ["red.png", "blue.png", "green.png"], two, "The first."),
        row("one too few", ["red.png"], two, "The first."),
        row("nowhere", ["red.png", "blue.png"], "Which is red?", "The first."),
        row("long", ["red.png"] * 9, "<image>" * 9 + "?", "The first."),
        row("gone", ["red.png", "gone.png"], two, "The first."),
        row("long answer", ["red.png", "blue.png"], two, "far " * 80),
        max_seq_len=100,
    )
    assert sorted(data.report.left_out.lines()) == [
        "1 x images that do not fit into max_seq_len: long",
        "3 x as many <image> marks as images are expected: sample 1 (one too many), sample 2 (one too few), "
        "sample 3 (nowhere)",
    ]
    assert len(data) == 3 and data.report.samples == {"perceive": 3}
    assert all(data[i]["input_ids"] == data[0]["input_ids"] for i in (1, 2))
    assert data.bad() == ["gone.png", "long answer"]


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
