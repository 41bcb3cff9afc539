"""Telling systemd that the process is alive, where it is a service with a watchdog.

Promises: outside systemd nothing is done and nothing fails. Source: sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> bool:
    """Send a state such as ``READY=1`` or ``WATCHDOG=1`` to the service manager.

    Returns:
        Whether there was one to send it to.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    name = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), name)
        return True
    return False
