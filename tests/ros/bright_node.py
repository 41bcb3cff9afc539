"""The real node with an engine that sees brightness alone: dark is near. Run as a program.

BRIGHT_NODE_DELAY: seconds that encoding an image takes, and each request about it (default 0).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import numpy as np

from proxqa_core.types import ObjectDepth, ObjectQuery
from proxqa_ros.proximity import node as proximity_node
from proxqa_ros.testing.engine import main_with_engine

DELAY_S = float(os.environ.get("BRIGHT_NODE_DELAY", "0"))


class BrightImage:
    def __init__(self, brightness: float) -> None:
        self.brightness = brightness

    def depths(self, objects: Sequence[ObjectQuery]) -> tuple[ObjectDepth, ...]:
        time.sleep(DELAY_S)
        return tuple(ObjectDepth(o.name, self.brightness, 0.05, 0.9, "bright", o.box) for o in objects)

    def ranking(self, objects: Sequence[ObjectQuery]) -> list[int]:
        return list(range(len(objects)))


class BrightEngine:
    model_name = "bright"

    def info(self) -> dict[str, str]:
        return {"model": self.model_name}

    def encode_image(self, image: np.ndarray) -> BrightImage:
        time.sleep(DELAY_S)
        return BrightImage(float(image[::8, ::8].mean()) / 255)


if __name__ == "__main__":
    proximity_node.DIAGNOSTICS_PERIOD_S = 0.1
    sys.exit(main_with_engine(lambda *_: BrightEngine()))
