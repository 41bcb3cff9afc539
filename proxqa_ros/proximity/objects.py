"""The objects of the stream: from the parameter `objects`, or with regions from the service `set_objects`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult

from proxqa_core.errors import BadObjectError
from proxqa_ros.common.conversions import TooManyObjectsError, object_queries
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.parameters import named_objects
from proxqa_ros.proximity.shared import SharedState


class ObjectsService:
    """The service's callback, and what a change of the parameter means.

    Args:
        shared: What the node's parts share.
        set_parameter: Sets the parameter `objects` to these names.
        logger: The node's logger.
    """

    def __init__(
        self, shared: SharedState, set_parameter: Callable[[list[str]], SetParametersResult], logger: Any
    ) -> None:
        self._shared, self._set_parameter, self._logger = shared, set_parameter, logger

    def are_current(self, names: Sequence[str] | None) -> bool:
        """Whether these are the names of the current objects, which may have regions."""
        objects = self._shared.objects
        return objects is not None and list(names or ()) == [q.name for q in objects]

    def adopt(self, names: Sequence[str] | None) -> None:
        """Make objects of the parameter's names, unless they are the current ones'. Raises BadParameterError."""
        if not self.are_current(names):
            self._shared.objects = named_objects(names)

    def on_set_objects(self, request: Any, response: Any) -> Any:
        """Answer a SetObjects request."""
        before = self._shared.objects
        try:
            wanted = object_queries(request.objects, request.regions)
            self._shared.objects = wanted  # with regions; the parameter holds the names only
            result = self._set_parameter([q.name for q in wanted])
            if not result.successful:
                raise RuntimeError(result.reason)
        except BadObjectError as error:
            too_many = isinstance(error, TooManyObjectsError)
            response.error_code = response.TOO_MANY_OBJECTS if too_many else response.BAD_REQUEST
            response.message = one_line(error)
        except Exception as error:
            self._shared.objects = before
            response.error_code, response.message = response.INTERNAL, one_line(error)
            self._logger.error(f"set_objects failed: {response.message}")
        response.success = response.error_code == response.NONE
        response.objects = [q.name for q in self._shared.objects or ()]
        return response
