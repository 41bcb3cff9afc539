"""Images that cannot be used: named as they are met and counted, so that one of them never ends a training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

log = logging.getLogger(__name__)

MAX_REASONS = 5
"""Reasons that are logged and reported; all images are counted."""


class BadImages:
    """The images of a run that were left out, each once."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def add(self, image: str, reason: str) -> None:
        """Note an image.

        Args:
            image: What it is called; noted once, however often it is met.
            reason: Why it cannot be used, one line that names the file.
        """
        if image in self._reasons:
            return
        self._reasons[image] = reason
        if len(self._reasons) <= MAX_REASONS:
            log.warning("an image is left out: %s", reason)
        elif len(self._reasons) == MAX_REASONS + 1:
            log.warning("more images are left out; they are counted in the report")

    def update(self, reasons: Mapping[str, str]) -> None:
        """Note several, by what they are called."""
        for image, reason in reasons.items():
            self.add(image, reason)

    def __len__(self) -> int:
        return len(self._reasons)

    def __contains__(self, image: str) -> bool:
        return image in self._reasons

    @property
    def reasons(self) -> Iterable[str]:
        """Why, in the order in which they were met."""
        return self._reasons.values()

    def report(self) -> dict[str, Any]:
        """How many (`count`) and the first `reasons`, as in the reports of evaluations."""
        return {"count": len(self), "reasons": list(self.reasons)[:MAX_REASONS]}
