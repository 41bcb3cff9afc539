"""Start a server, and end it by SIGINT or SIGTERM.

Promises: that the port is taken, or the folder cannot be used, is told before the model is loaded.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterator

import uvicorn

from proxqa_core.protocols import Engine
from proxqa_core.serving.app import make_app
from proxqa_core.serving.boxes import BoxesFolder
from proxqa_core.serving.config import BadServeConfigError, ServeConfig
from proxqa_core.serving.live import LiveSource

MAX_CONNECTIONS = 256
KEEP_ALIVE_S = 5
SHUTDOWN_S = 3
log = logging.getLogger(__name__)


def serve(
    config: ServeConfig, load_engine: Callable[[], Engine | None], connect: Callable[[], LiveSource | None]
) -> None:
    """Serve until a signal comes.

    Args:
        config: What to start with.
        load_engine: Loads the model; gives None where there shall be none.
        connect: Gives the running node, None where there shall be none.

    Raises:
        BadServeConfigError: The address cannot be listened on.
        ProxqaError: What the folder of boxes, the model or the node raise.
    """
    if config.boxes_folder is not None:
        BoxesFolder(config.boxes_folder)
    with listening(config) as sock:
        app = make_app(config, load_engine(), connect())
        sock.listen()  # who reads that it serves is not refused while the server starts
        host, port = sock.getsockname()[:2]
        log.info("serving %s (the page) and %s/v1 (OpenAI's interface); Ctrl-C ends it", *[_url(host, port)] * 2)
        if not config.is_local and not config.api_key:
            log.warning("everybody who reaches %s may ask and see; set PROXQA_API_KEY to have clients send a key", host)
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=log.isEnabledFor(logging.DEBUG),
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn ends well by SIGINT, and raises it again after
            uvicorn.Server(settings).run(sockets=[sock])


@contextlib.contextmanager
def listening(config: ServeConfig) -> Iterator[socket.socket]:
    """A socket that holds the address; it takes connections once the server runs.

    Raises:
        BadServeConfigError: The address is not this machine's, the port is taken, or may not be taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise BadServeConfigError(f"cannot listen on {config.host}:{config.port}: {_why(error)}") from error
    with contextlib.closing(sock):
        yield sock


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "it is no address of this machine"
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; choose another --port, or 0 for any free one"
    return os.strerror(error.errno or 0)


def _url(host: str, port: int) -> str:
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    return f"http://[{host}]:{port}" if literal.version == 6 else f"http://{host}:{port}"
