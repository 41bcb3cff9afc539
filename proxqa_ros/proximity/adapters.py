"""The folder of adapters that may be loaded at run time, and what the two services say about it.

Promises: a name from outside leads to a folder directly below the configured one or nowhere: no path, no hidden
folder, no link that leads out, be it the folder itself or a file in it. Every refusal has its error code and one line.
Knows nothing of what is in an adapter (`proxqa_core.model.adapter` does) nor of threads.
"""

from __future__ import annotations

import os
from pathlib import Path

from proxqa_core.errors import ProxqaError
from proxqa_core.types import clean_text
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.parameters import BadParameterError
from proxqa_ros.msg import Adapter
from proxqa_ros.proximity.queries import RefusedError
from proxqa_ros.proximity.worker import Engine, StoppedError
from proxqa_ros.srv import ListAdapters, LoadAdapter

Response = LoadAdapter.Response
MAX_NAME_LENGTH = 200
"""Longest name of an adapter's folder, in characters."""
MENTIONED = 8
"""Most names in one line."""


class AdaptersFolder:
    """A folder of adapters. BadParameterError where it is none."""

    def __init__(self, folder: str) -> None:
        try:
            self._root = Path(folder).resolve(strict=True)
            os.listdir(self._root)
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadParameterError(
                f"parameter 'adapters_folder' is {folder[:200]!r}: {reason}; expected a folder that can be read, or ''"
            ) from error

    def names(self) -> list[str]:
        """Names of the folders in it, sorted; those that could not be asked for are left out."""
        try:
            return sorted(n for n in os.listdir(self._root) if is_name(n) and os.path.isdir(self._root / n))
        except OSError as error:
            raise RefusedError(Response.INTERNAL, f"adapters_folder cannot be read: {one_line(error)}") from error

    def find(self, name: str) -> Path:
        """The real path of an adapter's folder. Raises RefusedError (FORBIDDEN, NOT_FOUND)."""
        if not is_name(name):
            raise RefusedError(
                Response.FORBIDDEN,
                f"adapter {name[:60]!r} is no name of a folder directly below adapters_folder; expected one without "
                f"'/' or a '.' in front, on one line of at most {MAX_NAME_LENGTH} characters",
            )
        try:
            place = (self._root / name).resolve()
            inside = self._holds(place) and all(self._holds(entry.resolve()) for entry in _entries(place))
        except (OSError, RuntimeError) as error:  # a link to itself, or no leave to look
            raise RefusedError(Response.NOT_FOUND, f"adapter {name!r} cannot be looked at: {error}") from error
        if not inside:
            raise RefusedError(
                Response.FORBIDDEN, f"adapter {name!r} leads out of adapters_folder; expected all its files below it"
            )
        if not place.is_dir():
            there = self.names()
            listed = ", ".join(there[:MENTIONED]) + (", …" if len(there) > MENTIONED else "")
            raise RefusedError(Response.NOT_FOUND, f"there is no adapter {name!r}; there are: {listed or 'none'}")
        return place

    def _holds(self, place: Path) -> bool:
        return self._root in place.parents

    def describe(self, engine: Engine, in_use: str) -> list[Adapter]:
        """Every adapter in it, with whether this engine can take it. in_use: name of the one that answers."""
        return [self._describe(name, engine, in_use) for name in self.names()]

    def _describe(self, name: str, engine: Engine, in_use: str) -> Adapter:
        message = Adapter(name=name, in_use=name == in_use)
        try:
            message.title = engine.check_adapter(self.find(name))
            message.loadable = True
        except (ProxqaError, OSError) as error:
            message.problem = one_line(error)
        return message


def is_name(name: str) -> bool:
    """Whether a text can be the name of an adapter's folder: one part of a path, as it is, in one line, not hidden."""
    if not 1 <= len(name) <= MAX_NAME_LENGTH or name.startswith(".") or "/" in name or "\\" in name:
        return False
    return clean_text(name) == name  # control characters, and bytes that are no text


def _entries(place: Path) -> list[Path]:
    return list(place.iterdir()) if place.is_dir() else []


def refuse(response: LoadAdapter.Response | ListAdapters.Response, error: BaseException) -> None:
    """Say in a response why it was not done."""
    response.success = False
    response.error_code = error_code(error)
    response.message = one_line(error)


def error_code(error: BaseException) -> int:
    """The named constant of LoadAdapter for an error."""
    if isinstance(error, RefusedError):
        return error.code
    if isinstance(error, StoppedError):
        return int(Response.MODEL_NOT_LOADED)
    return int(Response.BAD_ADAPTER if isinstance(error, (ProxqaError, OSError)) else Response.INTERNAL)
