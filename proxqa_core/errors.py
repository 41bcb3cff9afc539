"""What can go wrong, one class per kind, so that callers can tell the kinds apart.

Every message is one line that says what came and what was expected. Knows nothing of ROS or of exit codes.
"""


class ProxqaError(Exception):
    """Base of every error that this package raises on purpose."""


class BadImageError(ProxqaError, ValueError):
    """The image cannot be read: wrong shape, type, size or encoding."""


class BadObjectError(ProxqaError, ValueError):
    """An object's name or box cannot be used: empty, too long, outside the image, ambiguous or too many."""


class NotUnderstoodError(ProxqaError, ValueError):
    """The question cannot be answered: not understood, or it names nothing that could be looked for."""


class ModelNotFoundError(ProxqaError, FileNotFoundError):
    """The model, its base weights or the adapter are not there; the message names the command that gets them."""

    def __str__(self) -> str:  # FileNotFoundError would print errno forms
        return str(self.args[0]) if self.args else ""


class BadModelError(ProxqaError, ValueError):
    """The model or adapter files are there but damaged, of another model, or not safetensors."""


class BackendError(ProxqaError, RuntimeError):
    """A runtime for the networks cannot be used here: not installed, not for this model, or it failed."""


class WriteError(ProxqaError, OSError):
    """A file could not be written: no space, no right to write; the message says where and what would help."""

    def __str__(self) -> str:  # OSError would print errno forms
        return str(self.args[0]) if self.args else ""


class CacheError(WriteError):
    """What was made could not be kept in the cache."""


class OutOfMemoryError(ProxqaError, MemoryError):
    """Something does not fit into memory; the message says what, and how much there is."""


def reason_of(error: BaseException) -> str:
    """An error's text on one line, for a message that says what was tried; "" where it has none."""
    return " ".join(str(error).split())


def first_line_of(error: BaseException) -> str:
    """The first line of an error's text, of one that says much; its type's name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
