"""proxqa: how far named objects are and which is closer, from one image. Imports nothing of ROS."""

import importlib.metadata
import os
import re
from pathlib import Path

# Read by OpenMP when torch is first imported. By default its threads spin while they wait for one another; where other
# processes need the cores too (a robot's do), each wait then costs a time slice: seconds instead of tenths.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _version() -> str:
    """That of package.xml: beside the packages in a checkout, below share/ where it is installed."""
    parents = Path(__file__).resolve().parents
    for file in (parents[1] / "package.xml", parents[min(4, len(parents) - 1)] / "share/proxqa_ros/package.xml"):
        if file.is_file() and (found := re.search(r"<version>([^<]+)</version>", file.read_text(encoding="utf-8"))):
            return found.group(1)
    return importlib.metadata.version("proxqa_ros")  # installed by pip into a folder of its own


__version__ = _version()
