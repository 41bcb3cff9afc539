"""What a server is started with. Knows nothing of HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proxqa_core.errors import ProxqaError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MB = 10**6


class BadServeConfigError(ProxqaError, ValueError):
    """A setting of the server cannot be used; the message quotes it."""


@dataclass(frozen=True)
class ServeConfig:
    """Where to listen, what to allow, and how much of it.

    Attributes:
        host: Address to listen on.
        port: TCP port, 0 to 65535; 0 = any free one.
        max_body_mb: Largest request in MB (10^6 bytes), > 0.
        requests_per_minute: Most questions and uploads of one client address, 0 = any number.
        max_waiting: Most requests that wait for the model, from 1; more are answered 429.
        timeout_s: Longest wait for one answer in seconds, > 0.
        remembered_images: How many encoded images are kept for further questions, from 1.
        image_url_hosts: Hosts that images may be fetched from by http(s) URLs; none = only data: URLs.
        api_key: What clients have to send as "Authorization: Bearer …"; '' = nothing.
        boxes_folder: Folder of images to draw boxes in; None = none.

    Raises:
        BadServeConfigError: A value is out of its range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_body_mb: float = 20.0
    requests_per_minute: float = 300.0
    max_waiting: int = 16
    timeout_s: float = 120.0
    remembered_images: int = 8
    image_url_hosts: tuple[str, ...] = ()
    api_key: str = ""
    boxes_folder: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise BadServeConfigError(f"port is {self.port}; expected 0 to 65535, 0 = any free one")
        for name in ("max_body_mb", "timeout_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise BadServeConfigError(f"{name} is {getattr(self, name)}; expected a number above 0")
        for name in ("max_waiting", "remembered_images"):
            if getattr(self, name) < 1:
                raise BadServeConfigError(f"{name} is {getattr(self, name)}; expected a whole number from 1")
        if not 0 <= self.requests_per_minute < float("inf"):
            raise BadServeConfigError(
                f"requests_per_minute is {self.requests_per_minute}; expected a number from 0, 0 = any number"
            )

    @property
    def max_body_bytes(self) -> int:
        """Largest request in bytes."""
        return int(self.max_body_mb * MB)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOCAL_HOSTS
