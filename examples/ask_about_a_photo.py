"""Ask about a photograph from Python: the image is encoded once, then anything can be asked about it.

python3 examples/ask_about_a_photo.py photo.jpg chair table lamp
"""

from __future__ import annotations

import sys

from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import ProxqaError
from proxqa_core.types import VISIBLE
from proxqa_core.vision.image_file import read_image


def main(photo: str, *names: str) -> None:
    """Print how far each of the named objects is, nearest first, and which of the first two is closer.

    Args:
        photo: An image file.
        names: What to look for in it, as people would say it: "chair", "the red mug".
    """
    pixels = read_image(photo)
    image = ProximityEngine.load().encode_image(pixels)
    found = image.depths(names)
    for thing in (found[i] for i in image.ranking(names)):  # as "which is closer" tells; depths alone tell less
        if thing.score >= VISIBLE:
            # relative depth: 0 = nearest in view, 1 = farthest; it is not metres
            print(f"{thing.name}: {thing.depth:.2f} ± {thing.depth_stddev:.2f}, in view: {thing.score:.0%}")
        else:
            print(f"{thing.name}: not in view ({thing.score:.0%})")
    answer = image.ask(f"Which is closer, the {names[0]} or the {names[1]}?")
    print(f"{answer.answer} ({answer.probability:.0%})" if answer.closer else answer.answer)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(f"usage: {sys.argv[0]} PHOTO NAME NAME …")
    try:
        main(*sys.argv[1:])
    except (ProxqaError, OSError) as error:  # one line that says what came and what was expected
        sys.exit(f"{sys.argv[0]}: {error}")
