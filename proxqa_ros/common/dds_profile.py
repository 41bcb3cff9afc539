"""The Fast DDS profile of this package, used however a node is started.

Promises: whatever somebody has chosen for Fast DDS stays; another middleware is not touched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

MODULES = Path(__file__).resolve().parents[2]
"""The folder that this package lies in: the checkout, or site-packages."""
NAME = Path("config") / "fastdds_shm.xml"
PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
CHOSEN_BY = (PROFILE, "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
"""Environment variables that say somebody has chosen."""


def fastdds_profile() -> Path:
    """The Fast DDS profile that keeps large images from being lost: of the checkout, else the installed one.

    Raises:
        LookupError: This package is in no prefix that ament knows.
        OSError: There are none: no setup file was sourced.
    """
    # an environment made of wheels has no setup file to source, and so no AMENT_PREFIX_PATH
    for profile in (MODULES / NAME, Path(sys.prefix) / "share" / "proxqa_ros" / NAME):
        if profile.is_file():
            return profile
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("proxqa_ros")) / NAME


def use_fastdds_profile(environ: MutableMapping[str, str] = os.environ) -> None:
    """Have Fast DDS take the profile when it starts, where nothing else was chosen; before `rclpy.init`.

    Args:
        environ: The process's environment, which is changed.
    """
    if any(environ.get(name) for name in CHOSEN_BY):
        return
    try:
        profile = fastdds_profile()
    except (LookupError, OSError):  # run from a copy without its share folder: the built-in transports stay
        return
    if profile.is_file():
        environ[PROFILE] = str(profile)
