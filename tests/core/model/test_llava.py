"""Any LLaVA of Hugging Face, here a tiny one of CLIP and Llama, random weights, goes the same way as the default."""

import math

import numpy as np
import pytest
import torch

from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadModelError
from proxqa_core.evaluation.bench import ask_one_by_one, picture
from proxqa_core.types import Box, ObjectQuery, QuestionKind
from tests.core.tiny_llava import SIDE, save_llava


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def tiny(folder):
    return ProximityEngine.load(str(folder), device="cpu", dtype="float32")


def test_it_sees_the_whole_image_padded_and_answers(tiny):
    assert tiny.model.preprocessing.geometry == "pad" and tiny.model.preprocessing.size == SIDE
    assert tiny.info()["image_tokens"] == 16 and not tiny.info()["region_token"]
    view = tiny.encode_image(picture(1))
    found = view.depths(["chair", ObjectQuery("table", Box(10, 10, 200, 300))])
    assert all(0 <= o.depth <= 1 and math.isfinite(o.depth_stddev) for o in found)
    assert view.closer("chair", "table").raw_probability >= 0.5


def test_it_answers_as_generate_does(tiny):
    image = picture(2)
    found = tiny.encode_image(image).depths(["chair", "lamp"])
    features = tiny.encoder.encode(tiny.model.preprocessing.pixels([image]))[0]
    pixels = tiny.model.preprocessing.pixels([image])
    theirs = tiny.model.llava.get_image_features(pixel_values=pixels).pooler_output[0]
    assert torch.allclose(tiny.language_model.project(features), theirs, atol=1e-5)
    assert len(ask_one_by_one(tiny, image, ["chair", "lamp"])) == len(found)


def test_general_questions_are_the_models_own_to_answer(tiny):
    answer = tiny.encode_image(np.zeros((40, 60, 3), np.uint8)).ask("What colour is the sky on a sunny day?")
    assert answer.kind is QuestionKind.GENERAL


def test_the_adapter_of_another_base_is_refused(folder):
    from proxqa_core.model.loading import DEFAULT_ADAPTER

    with pytest.raises(BadModelError, match="was made for base"):
        ProximityEngine.load(str(folder), adapter=DEFAULT_ADAPTER)
