"""Any LLaVA of Hugging Face, here a tiny one of CLIP and Llama, random weights, goes the same way as the default."""

import math

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from proxqa_core.base_weights import default_base
from proxqa_core.bench import ask_one_by_one, picture
from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadModelError
from proxqa_core.types import Box, ObjectQuery, QuestionKind

SIDE = 56
TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("llava")
    tokenizer = AutoTokenizer.from_pretrained(default_base())
    tokenizer.chat_template = TEMPLATE
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=14
    )
    text = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(tokenizer)
    )
    config = LlavaConfig(vision_config=vision, text_config=text)
    config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def tiny(folder):
    return ProximityEngine.load(str(folder), device="cpu", dtype="float32")


def test_it_sees_the_whole_image_padded_and_answers(tiny):
    assert tiny.model.preprocessing.geometry == "pad" and tiny.model.preprocessing.size == SIDE
    assert tiny.info()["image_tokens"] == 16 and not tiny.region_token
    view = tiny.look(picture(1))
    found = view.depths(["chair", ObjectQuery("table", Box(10, 10, 200, 300))])
    assert all(0 <= o.depth <= 1 and math.isfinite(o.depth_stddev) for o in found)
    assert view.closer("chair", "table").probability >= 0.5


def test_it_answers_as_generate_does(tiny):
    image = picture(2)
    found = tiny.look(image).depths(["chair", "lamp"])
    features = tiny.encoder.encode(tiny.model.preprocessing.pixels([image]))[0]
    pixels = tiny.model.preprocessing.pixels([image])
    theirs = tiny.model.llava.get_image_features(pixel_values=pixels).pooler_output[0]
    assert torch.allclose(tiny.project(features), theirs, atol=1e-5)
    assert len(ask_one_by_one(tiny, image, ["chair", "lamp"])) == len(found)


def test_general_questions_are_the_models_own_to_answer(tiny):
    answer = tiny.look(np.zeros((40, 60, 3), np.uint8)).ask("What colour is the sky on a sunny day?")
    assert answer.kind is QuestionKind.GENERAL


def test_the_adapter_of_another_base_is_refused(folder):
    from proxqa_core.model import DEFAULT_ADAPTER

    with pytest.raises(BadModelError, match="was made for base"):
        ProximityEngine.load(str(folder), adapter=DEFAULT_ADAPTER)
