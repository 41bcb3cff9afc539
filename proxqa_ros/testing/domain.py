"""A ROS domain of one's own on this machine, and the environment of processes in it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from proxqa_ros.common.dds_profile import MODULES, fastdds_profile
from proxqa_ros.testing.errors import HarnessError

RESERVED_PORTS = 32768
"""Domain N is taken while somebody holds TCP port RESERVED_PORTS + N: ROS's domain_coordinator keeps the same rule."""
MAX_DOMAIN = 100
__all__ = ["MODULES", "fastdds_profile", "own_domain", "ros_environment"]


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
