"""Images that a request names by URL.

Promises: `data:` URLs are decoded; http(s) is fetched from hosts that were named at start and from no other, also after
redirects; every other scheme, `file:` above all, is refused. At most so many bytes are taken. Knows nothing of pixels.
"""

from __future__ import annotations

import base64
import binascii
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException, HTTPMessage
from typing import IO

from proxqa_core.errors import reason_of
from proxqa_core.serving.errors import BAD_REQUEST, FORBIDDEN, TOO_LARGE, ApiError

SOCKET_TIMEOUT_S = 10.0
FETCH_TIMEOUT_S = 30.0
"""Longest time for a whole image."""
CHUNK_BYTES = 64 * 1024
PARAM = "messages"
SHOWN_CHARACTERS = 80


def image_of_url(url: str, max_bytes: int, hosts: Sequence[str] = ()) -> bytes:
    """The content of an image file.

    Args:
        url: Begins with data: or http(s):.
        max_bytes: Most bytes accepted.
        hosts: Those that may be fetched from, without a port.

    Raises:
        ApiError: The URL cannot be read, is not allowed, or holds too much.
    """
    scheme = url.partition(":")[0].strip().lower()
    if scheme == "data":
        return _decoded(url, max_bytes)
    if scheme in ("http", "https"):
        return _fetched(url, max_bytes, hosts)
    raise _refused(f"image URL {_short(url)} has a scheme that is never read; expected data:image/jpeg;base64,…")


def _decoded(url: str, max_bytes: int) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise _refused(f"image URL {_short(url)} cannot be read; expected data:image/jpeg;base64,…")
    try:
        content = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused(f"image URL {_short(url)} holds no base64 ({reason_of(error)[:60]})") from error
    if len(content) > max_bytes:
        raise _too_large(len(content), max_bytes)
    return content


class _SameHosts(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed hosts only."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _check_host(newurl, self._hosts)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetched(url: str, max_bytes: int, hosts: Sequence[str]) -> bytes:
    _check_host(url, hosts)
    opener = urllib.request.build_opener(_SameHosts(hosts))
    end_s = time.monotonic() + FETCH_TIMEOUT_S
    content = bytearray()
    try:
        with opener.open(url, timeout=SOCKET_TIMEOUT_S) as response:
            while chunk := response.read1(CHUNK_BYTES):
                content += chunk
                if len(content) > max_bytes:
                    raise _too_large(len(content), max_bytes)
                if time.monotonic() > end_s:
                    raise TimeoutError(f"not whole within {FETCH_TIMEOUT_S:g} s")
    except (OSError, HTTPException, ValueError) as error:
        raise _refused(f"image URL {_short(url)} cannot be fetched ({reason_of(error)[:100]})") from error
    return bytes(content)


def _check_host(url: str, hosts: Sequence[str]) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise _refused(f"image URL {_short(url)} cannot be read ({reason_of(error)})") from error
    if parts.scheme not in ("http", "https") or host not in hosts:
        allowed = f"only from {', '.join(hosts)}" if hosts else "from no host"
        raise ApiError(
            FORBIDDEN,
            "image_url_not_allowed",
            f"image URL {_short(url)} is not fetched: this server was started to fetch {allowed} (--image-url-host); "
            "send the image itself as data:image/jpeg;base64,…",
            PARAM,
        )


def _refused(message: str) -> ApiError:
    return ApiError(BAD_REQUEST, "bad_image_url", message, PARAM)


def _too_large(size: int, most: int) -> ApiError:
    return ApiError(TOO_LARGE, "too_large", f"the image has {size} bytes or more; at most {most} are taken", PARAM)


def _short(url: str) -> str:
    return repr(url if len(url) <= SHOWN_CHARACTERS else url[: SHOWN_CHARACTERS - 1] + "…")
