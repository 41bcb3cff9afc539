"""What colour things have: the bundled network on plain colours, its arithmetic on made ones, damage."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from proxqa_core.errors import BadModelError
from proxqa_core.language.referring import TERMS, read_expression
from proxqa_core.types import Box, ObjectQuery
from proxqa_core.vision import colours
from proxqa_core.vision.colours import ColourReader, ImageColours, by_colour, light_of, patch_colours
from proxqa_core.vision.grounding_head import Candidate
from proxqa_core.vision.preprocessing import Preprocessing

PAINTS = {
    "red": (170, 25, 25),
    "green": (30, 130, 45),
    "blue": (35, 60, 170),
    "yellow": (225, 200, 40),
    "black": (18, 18, 18),
    "white": (235, 235, 232),
}
LEFT, RIGHT = Box(0.1, 0.2, 0.4, 0.8), Box(0.6, 0.2, 0.9, 0.8)


def painted(left, right):
    """A grey room, darker below, with a block of paint in LEFT and one in RIGHT."""
    image = np.full((240, 320, 3), 150, np.uint8)
    image[120:] = 95
    for box, paint in ((LEFT, left), (RIGHT, right)):
        image[int(240 * box.y1) : int(240 * box.y2), int(320 * box.x1) : int(320 * box.x2)] = PAINTS[paint]
    return image


def seen(image, side=24):
    preprocessing = Preprocessing(14 * side)
    return patch_colours(preprocessing.as_seen(preprocessing.pixels([image])[0]), side)


@pytest.mark.parametrize("left", PAINTS)
@pytest.mark.parametrize("right", PAINTS)
def test_a_colour_tells_one_of_two_things(left, right):
    if left == right:
        return
    read = ImageColours.of(seen(painted(left, right)))
    alike = torch.ones(24 * 24)
    things = [Candidate(LEFT, 0.8), Candidate(RIGHT, 0.9)]
    assert by_colour(things, read, (left,), alike)[0].box == LEFT
    assert by_colour(things, read, (right,), alike)[0].box == RIGHT
    assert read.fit((left,), LEFT, alike) > 0.5 > read.fit((left,), RIGHT, alike)


def test_the_patches_that_show_the_thing_say_its_colour():
    """A box around both: the weights decide whose colour it is."""
    read = ImageColours.of(seen(painted("red", "blue")))
    around = Box(0.1, 0.2, 0.9, 0.8)
    left = (torch.arange(24 * 24) % 24 < 12).float()
    assert read.fit(("red",), around, left) > 0.9 > 0.1 > read.fit(("blue",), around, left)
    assert read.fit(("blue",), around, 1 - left) > 0.9
    assert read.fit(("red", "blue"), around, left) == pytest.approx(1.0)


def test_patches_are_means_row_by_row():
    pixels = torch.zeros(3, 4, 4)
    pixels[0, :2, 2:] = 1.0  # upper right quarter red
    pixels[2, 2:, :2] = 0.5
    assert patch_colours(pixels, 2).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0.5], [0, 0, 0]]
    light = light_of(torch.linspace(0, 1, 101)[:, None] * torch.tensor([1.0, 0.5, 0.0]))
    assert light.tolist() == pytest.approx([0.95, 0.475, 0, 0.5, 0.25, 0, 0.05, 0.025, 0], abs=1e-5)


def test_the_picture_comes_back_out_of_normalised_pixels():
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    preprocessing = Preprocessing(28)
    back = preprocessing.as_seen(preprocessing.pixels([image])[0])
    assert np.abs(back.permute(1, 2, 0).numpy() * 255 - image).max() < 0.01


def test_damaged_weights_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(colours, "WEIGHTS", tmp_path / "colours.safetensors")
    for damage in ({"layers.0.weight": torch.zeros(2, 2)}, None):
        if damage is None:
            colours.WEIGHTS.write_bytes(b"nonsense")
        else:
            save_file(damage, colours.WEIGHTS)
        colours.reader.cache_clear()
        with pytest.raises(BadModelError, match=r"colours.safetensors does not hold a colour reader") as error:
            colours.reader()
        assert "\n" not in str(error.value)
    save_file(ColourReader().state_dict(), colours.WEIGHTS)
    assert colours.reader()(torch.rand(5, 3), torch.rand(5, 9)).shape == (5, len(TERMS))
    colours.reader.cache_clear()


def test_the_engine_looks_for_the_thing_of_the_colour_asked_for(exact):
    """The same picture mirrored in its paints: what is asked for moves, though the candidates do not know."""
    places = []
    for paints in (("red", "blue"), ("blue", "red")):
        view = exact.encode_image(painted(*paints))
        view._grounding._candidates["box"] = [Candidate(LEFT, 0.8), Candidate(RIGHT, 0.8)]
        by_name = view._grounding.candidates_for(read_expression("red box"))
        assert by_name[0].score == pytest.approx(0.8) and by_name[1].score < 0.2
        (told,) = view.depths(["red box"])
        places.append(told.found_at)
        tree = view.digit_trees([ObjectQuery("box", told.found_at)])[0]
        right, wrong = (
            view.visibility_evidence(ObjectQuery(f"{c} box", told.found_at), tree)[1] for c in ("red", "blue")
        )
        assert right > wrong
    assert places[0].x2 < 160 < places[1].x1
