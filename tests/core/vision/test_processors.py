"""The pixels of a Hugging Face LLaVA are those of its own image processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from proxqa_core.errors import BadModelError
from proxqa_core.vision.preprocessing import Preprocessing

SIDE = 56
SQUARE = {"height": SIDE, "width": SIDE}
CLIP = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE)
LLAVA = LlavaImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE, do_pad=True)
SIGLIP = SiglipImageProcessorPil(size=SQUARE)
sides = st.integers(16, 200)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def difference(processor: Any, image: NDArray[np.uint8]) -> float:
    """Most levels of 255 by which our pixels and the processor's differ."""
    ours = Preprocessing.of_processor(processor)
    theirs = processor(image, return_tensors="np")["pixel_values"][0]
    apart = np.abs(ours.pixels([image])[0].numpy() - theirs) * np.array(ours.std)[:, None, None]
    return float(255 * apart.max())


@settings(max_examples=40)
@given(height=sides, width=sides)
def test_llava_pads_and_siglip_stretches_any_image(height: int, width: int) -> None:
    image = noise(height, width)
    assert difference(LLAVA, image) < 0.01
    assert difference(SIGLIP, image) < 0.01


@settings(max_examples=20)
@given(side=sides)
def test_clips_own_pixels_of_square_images(side: int) -> None:
    assert difference(CLIP, noise(side, side)) < 0.01


def test_an_image_that_clip_would_crop_is_padded_in_llavas_colour() -> None:
    p = Preprocessing.of_processor(CLIP)
    assert p.geometry == "pad"
    border = p.as_seen(p.pixels([np.zeros((20, 200, 3), np.uint8)]))[0, :, 0, 0]
    np.testing.assert_allclose(255 * border.numpy(), (122, 116, 104), atol=1e-3)


@pytest.mark.parametrize("filter_", [0, 1, 2, 3])
def test_the_processors_filter_is_used(filter_: int) -> None:
    processor = SiglipImageProcessorPil(size=SQUARE, resample=filter_, do_normalize=filter_ > 1)
    assert difference(processor, noise(90, 130)) < 0.01


@pytest.mark.parametrize(
    "odd", [{"rescale_factor": 1 / 127.5}, {"size": {"height": 56, "width": 70}}, {"do_resize": False}, {"resample": 9}]
)
def test_what_cannot_be_done_alike_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(BadModelError, match="its image processor"):
        Preprocessing.of_processor(SiglipImageProcessorPil(**({"size": SQUARE} | odd)))


def test_the_default_model_shrinks_by_area_as_it_was_trained() -> None:
    image = noise(112, 112)
    default = Preprocessing(SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    by_area = image.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(255 * default.pixels([image])[0].numpy(), by_area, atol=0.51)
