"""The folder of adapters that may be loaded at run time, and the error codes of the two services about it.

Promises: a name from outside leads to a folder directly below the configured one or nowhere: no path, no hidden
folder, no link that leads out, be it the folder itself or a file in it. Every refusal has its error code and one line.
"""

from __future__ import annotations

import os
from pathlib import Path

from proxqa_core.errors import ProxqaError
from proxqa_core.protocols import AdaptableEngine
from proxqa_core.types import clean_text
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.parameters import BadParameterError
from proxqa_ros.msg import Adapter
from proxqa_ros.proximity.queries import RefusedError
from proxqa_ros.proximity.worker import StoppedError
from proxqa_ros.srv import ListAdapters, LoadAdapter

Response = LoadAdapter.Response
MAX_NAME_LENGTH = 200
"""Longest name of an adapter's folder, in characters."""
MAX_NAMES_IN_LINE = 8
"""Most names in one line."""


class AdaptersFolder:
    """A folder of adapters.

    Args:
        folder: The path of the folder.

    Raises:
        BadParameterError: It is no folder that can be read.
    """

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
        """The real path of an adapter's folder. Raises RefusedError (FORBIDDEN or NOT_FOUND)."""
        if not is_name(name):
            raise RefusedError(
                Response.FORBIDDEN,
                f"adapter {name[:60]!r} is no name of a folder directly below adapters_folder; expected one without "
                f"'/' or a '.' in front, on one line of at most {MAX_NAME_LENGTH} characters",
            )
        try:
            path = (self._root / name).resolve()
            inside = self._contains(path) and all(self._contains(entry.resolve()) for entry in _entries(path))
        except (OSError, RuntimeError) as error:  # a link to itself, or no permission
            raise RefusedError(Response.NOT_FOUND, f"adapter {name!r} cannot be read: {error}") from error
        if not inside:
            raise RefusedError(
                Response.FORBIDDEN, f"adapter {name!r} leads out of adapters_folder; expected all its files below it"
            )
        if not path.is_dir():
            there = self.names()
            listed = ", ".join(there[:MAX_NAMES_IN_LINE]) + (", …" if len(there) > MAX_NAMES_IN_LINE else "")
            raise RefusedError(Response.NOT_FOUND, f"there is no adapter {name!r}; there are: {listed or 'none'}")
        return path

    def _contains(self, path: Path) -> bool:
        return self._root in path.parents

    def describe(self, engine: AdaptableEngine, in_use: str) -> list[Adapter]:
        """Every adapter in it, with whether this engine can load it. in_use: the name of the one in use."""
        return [self._describe(name, engine, in_use) for name in self.names()]

    def _describe(self, name: str, engine: AdaptableEngine, in_use: str) -> Adapter:
        message = Adapter(name=name, in_use=name == in_use)
        try:
            message.title = engine.check_adapter(self.find(name))
            message.loadable = True
        except (ProxqaError, OSError) as error:
            message.problem = one_line(error)
        return message


def is_name(name: str) -> bool:
    """Whether a text can be the name of an adapter's folder: one part of a path, in one line, not hidden."""
    if not 1 <= len(name) <= MAX_NAME_LENGTH or name.startswith(".") or "/" in name or "\\" in name:
        return False
    return clean_text(name) == name  # control characters, and bytes that are no text


def _entries(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else []


def fill_refusal(response: LoadAdapter.Response | ListAdapters.Response, error: BaseException) -> None:
    """Fill in the response to a request that was refused."""
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
