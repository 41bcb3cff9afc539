"""The Fast DDS profile of this package, used however a node is started.

Promises: whatever somebody has chosen for Fast DDS stays; another middleware is not touched.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

MODULES = Path(__file__).resolve().parents[2]
"""The folder that this package lies in: the checkout, or site-packages."""
PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
CHOSEN_BY = (PROFILE, "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
"""Environment variables that say somebody has chosen."""


def fastdds_profile() -> Path:
    """The Fast DDS profile that keeps large images from being lost: of the checkout, else the installed one."""
    profile = MODULES / "config" / "fastdds_shm.xml"
    if profile.is_file():
        return profile
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("proxqa_ros")) / "config" / "fastdds_shm.xml"


def use_fastdds_profile(environ: MutableMapping[str, str] = os.environ) -> None:
    """Have Fast DDS take the profile when it starts, where nothing else was chosen; before `rclpy.init`.

    Args:
        environ: The process's environment, which is changed.
    """
    if any(environ.get(name) for name in CHOSEN_BY):
        return
    try:
        profile = fastdds_profile()
    except LookupError:  # run from a copy without its share folder: the built-in transports stay
        return
    if profile.is_file():
        environ[PROFILE] = str(profile)
