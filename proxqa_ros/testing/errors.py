"""What can go wrong with nodes that are run from outside."""

from __future__ import annotations

from proxqa_core.errors import ProxqaError


class HarnessError(ProxqaError):
    """A node cannot be run or has ended, with the reason; a node's log may follow on more lines."""
