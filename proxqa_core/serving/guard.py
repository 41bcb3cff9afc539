"""Before every request: who may ask, from where, how much. After it: headers that keep the page to itself.

Promises: a page of another site can neither ask nor write here, also not by a name that it makes mean this machine (DNS
rebinding); a request that is larger than allowed is not read further; no text from outside can run as code on the page.
Knows nothing of what is asked.
"""

from __future__ import annotations

import hmac
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxqa_core.serving.config import LOCAL_HOSTS, ServeConfig
from proxqa_core.serving.errors import FORBIDDEN, TOO_LARGE, TOO_MANY, UNAUTHORIZED, ApiError
from proxqa_core.serving.limits import RateLimit

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
READING = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Middleware that bounds bodies and adds headers.

    Args:
        app: What comes after.
        max_body_bytes: Largest body.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app, self._most = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                detail = f"the request has more than {self._most / 1e6:g} MB; send a smaller image (--max-mb)"
                raise HTTPException(TOO_LARGE, detail)
            return message

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                named = {k.lower() for k, _ in message["headers"]}
                more = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items() if k.lower().encode() not in named]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, bounded, with_headers)


class Doorkeeper:
    """A dependency of every address: host, origin, key and rate.

    Args:
        config: What is allowed.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config, self._rate = config, RateLimit(config.requests_per_minute)

    def check_place(self, request: Request) -> None:
        """Refuse other sites' pages.

        Raises:
            ApiError: The request names another host, or a page of another origin sent it.
        """
        host = request.headers.get("host", "")
        if self._config.is_local and _split(f"//{host}")[1] not in LOCAL_HOSTS:
            raise ApiError(FORBIDDEN, "wrong_host", f"host {host[:80]!r} is not this machine; expected localhost")
        origin = request.headers.get("origin")
        if request.method not in READING and origin is not None and _split(origin)[0] != host:
            message = f"origin {origin[:80]!r} may not ask here; expected {host[:80]!r}"
            raise ApiError(FORBIDDEN, "wrong_origin", message)

    def check_key(self, request: Request) -> None:
        """Refuse clients without the key.

        Raises:
            ApiError: There is a key, and it was not sent.
        """
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        wanted = self._config.api_key
        if wanted and not hmac.compare_digest(given.encode(), wanted.encode()):
            raise ApiError(
                UNAUTHORIZED, "wrong_api_key", "the API key is missing or wrong; send 'Authorization: Bearer KEY'"
            )

    def check_rate(self, request: Request) -> None:
        """Refuse clients that come too often.

        Raises:
            ApiError: More came in the last minute than are allowed.
        """
        client = request.client.host if request.client else ""
        if not self._rate.allows(client):
            most = self._config.requests_per_minute
            raise ApiError(
                TOO_MANY, "rate_limit", f"more than {most:g} requests a minute came from {client}; wait a little"
            )


def _split(address: str) -> tuple[str, str]:
    """Place ("localhost:8000") and host ("localhost") of an address; '' and '' where it is none."""
    try:
        parts = urlsplit(address)
        return (parts.netloc, parts.hostname or "") if "@" not in parts.netloc else ("", "")
    except ValueError:
        return "", ""
