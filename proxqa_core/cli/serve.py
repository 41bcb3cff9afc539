"""`proxqa serve`: a page to try it on, and OpenAI's interface.

The web framework and the node's bridge are optional, and imported where they are asked for only.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from proxqa_core.cli import common
from proxqa_core.errors import reason_of

if TYPE_CHECKING:
    from proxqa_core.protocols import Engine
    from proxqa_core.serving.live import LiveSource

BRIDGE = "proxqa_ros.page_bridge"
"""The module that connects to a running node; this package imports nothing of ROS."""
API_KEY = "PROXQA_API_KEY"
"""The environment variable with the key: a command line can be read by every user of the machine."""


def add_commands(commands: common.SubParsers) -> None:
    """Add `serve`."""
    summary = "a page in the browser, and an OpenAI-compatible server"
    parents = [common.log_options(), common.model_options()]
    parser = commands.add_parser("serve", parents=parents, help=summary, description=f"{summary.capitalize()}.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=common.count_or_none, default=8000, help="0 = any free one (default: 8000)")
    parser.add_argument("--boxes", metavar="DIR", type=Path, help="folder of images to draw boxes in (labelled folder)")
    parser.add_argument(
        "--node", nargs="?", const="proximity", metavar="NAME", help="show a running node (default: /proximity)"
    )
    parser.add_argument(
        "--no-model", action="store_true", help="load no model: only --node is asked, or boxes are drawn"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-mb", metavar="MB", type=common.positive, default=20.0, help="largest request (20)")
    limits.add_argument(
        "--rate",
        metavar="N",
        type=common.not_negative,
        default=300.0,
        help="requests a minute of one address (300; 0 = any)",
    )
    limits.add_argument("--queue", metavar="N", type=common.count, default=16, help="most requests that wait (16)")
    limits.add_argument("--timeout", metavar="S", type=common.positive, default=120.0, help="longest wait (120)")
    limits.add_argument(
        "--image-url-host",
        metavar="HOST",
        action="append",
        default=[],
        help="fetch images from http(s) URLs of this host (default: of none)",
    )
    parser.epilog = f"The environment variable {API_KEY} is the key that clients have to send (default: none)."
    parser.set_defaults(command=run_serve)


def run_serve(options: argparse.Namespace) -> None:
    """Serve until it is interrupted."""
    if options.no_model and options.node is None and options.boxes is None:
        raise common.BadUsageError("--no-model leaves nothing to do; give --node or --boxes DIR too")
    try:
        from proxqa_core.serving.config import ServeConfig
        from proxqa_core.serving.run import serve
    except ModuleNotFoundError as error:
        raise common.NotInstalledError(
            f"the package {error.name} is not installed; `proxqa serve` needs it: pip install fastapi uvicorn"
        ) from error
    config = ServeConfig(
        host=options.host,
        port=options.port,
        max_body_mb=options.max_mb,
        requests_per_minute=options.rate,
        max_waiting=options.queue,
        timeout_s=options.timeout,
        image_url_hosts=tuple(host.lower() for host in options.image_url_host),
        api_key=os.environ.get(API_KEY, ""),
        boxes_folder=options.boxes,
    )
    serve(config, lambda: _engine(options), lambda: _node(options.node))


def _engine(options: argparse.Namespace) -> Engine | None:
    if options.no_model:
        return None
    with common.stdout_to_stderr():
        return common.load_engine(options)


def _node(name: str | None) -> LiveSource | None:
    if name is None:
        return None
    try:
        bridge = importlib.import_module(BRIDGE)
    except ImportError as error:
        raise common.NotInstalledError(
            f"--node needs ROS 2 ({reason_of(error)}); source a distro, or install the ros-* wheels"
        ) from error
    found: LiveSource = bridge.connect(name)
    return found
