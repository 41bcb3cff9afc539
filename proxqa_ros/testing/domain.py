"""A ROS domain of one's own on this machine, and the environment of processes in it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from proxqa_ros.testing.errors import HarnessError

RESERVED_PORTS = 32768
"""Domain N is taken while somebody holds TCP port RESERVED_PORTS + N: ROS's domain_coordinator keeps the same rule."""
MAX_DOMAIN = 100
MODULES = Path(__file__).resolve().parents[2]
"""The folder that this package lies in: the checkout, or site-packages."""


@contextlib.contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain id, 1 to MAX_DOMAIN, that nobody else on this machine has reserved.

    Raises:
        HarnessError: All are reserved.
    """
    for domain in range(1, MAX_DOMAIN + 1):
        with socket.socket() as reservation:
            try:
                reservation.bind(("", RESERVED_PORTS + domain))
            except OSError:
                continue
            yield domain
            return
    raise HarnessError(f"no free ROS domain id from 1 to {MAX_DOMAIN} on this machine")


def fastdds_profile() -> Path:
    """The Fast DDS profile that keeps large images from being lost: of the checkout, else the installed one."""
    profile = MODULES / "config" / "fastdds_shm.xml"
    if profile.is_file():
        return profile
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("proxqa_ros")) / "config" / "fastdds_shm.xml"


def ros_environment(domain: int) -> dict[str, str]:
    """Environment variables that keep ROS to a domain on this machine, and large images from being lost.

    Args:
        domain: The ROS domain id.
    """
    return {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_DEFAULT_PROFILES_FILE": str(fastdds_profile()),
    }
