"""The real proximity node with another engine than the model's, as a program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from proxqa_ros.proximity import node as proximity_node


def main_with_engine(engine_loader: Callable[..., Any]) -> int:
    """Run the proximity node's `main`.

    Args:
        engine_loader: Called as the node's own loader; gives the engine.

    Returns:
        The exit code.
    """
    node = functools.partial(proximity_node.ProximityNode, engine_loader=engine_loader)
    with patch.object(proximity_node, "ProximityNode", node):
        return proximity_node.main()
