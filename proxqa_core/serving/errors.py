"""Errors that a client of the server gets, in OpenAI's form. Knows nothing of a web framework."""

from __future__ import annotations

from typing import Any

from proxqa_core.errors import BadImageError, BadObjectError, NotUnderstoodError, ProxqaError, reason_of
from proxqa_core.memory import is_out_of_memory

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, TOO_LARGE = 400, 401, 403, 404, 409, 413
UNPROCESSABLE, TOO_MANY, INTERNAL, UNAVAILABLE, TIMED_OUT = 422, 429, 500, 503, 504
RETRY_AFTER_S = 1
"""When to come again after 429 and 503, in seconds."""
_TYPES = {
    UNAUTHORIZED: "authentication_error",
    FORBIDDEN: "permission_error",
    TOO_MANY: "rate_limit_error",
    INTERNAL: "server_error",
    UNAVAILABLE: "server_error",
    TIMED_OUT: "server_error",
}


class ApiError(ProxqaError):
    """A request that is not answered.

    Args:
        status: HTTP status.
        code: For programs: one word.
        message: For people: one line.
        param: The field of the request that it is about; '' = none.
    """

    def __init__(self, status: int, code: str, message: str, param: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param

    def body(self) -> dict[str, Any]:
        """The error object of OpenAI's interface."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param or None, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers that belong to the status."""
        if self.status in (TOO_MANY, UNAVAILABLE):
            return {"Retry-After": str(RETRY_AFTER_S)}
        return {"WWW-Authenticate": "Bearer"} if self.status == UNAUTHORIZED else {}


def as_api_error(error: Exception) -> ApiError:
    """What a client gets to know of an error that was raised while a request was answered."""
    if isinstance(error, ApiError):
        return error
    known = {BadImageError: "bad_image", BadObjectError: "bad_object", NotUnderstoodError: "not_understood"}
    code = next((code for kind, code in known.items() if isinstance(error, kind)), "")
    if code:
        status = UNPROCESSABLE if code == "not_understood" else BAD_REQUEST
        return ApiError(status, code, reason_of(error))
    if isinstance(error, ProxqaError):  # files of the folder, mostly
        bad_input = isinstance(error, ValueError)
        return ApiError(
            BAD_REQUEST if bad_input else INTERNAL, "bad_input" if bad_input else "failed", reason_of(error)
        )
    if isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
        return ApiError(UNAVAILABLE, "out_of_memory", "memory has run out; send a smaller image, or try again later")
    return ApiError(
        INTERNAL, "internal_error", f"a fault inside the server ({type(error).__name__}); its log says more"
    )
