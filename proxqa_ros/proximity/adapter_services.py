"""The services `load_adapter` and `list_adapters`: another adapter takes over while the node runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from proxqa_core.protocols import AdaptableEngine
from proxqa_ros.proximity import adapters
from proxqa_ros.proximity.adapters import AdaptersFolder
from proxqa_ros.proximity.queries import RefusedError
from proxqa_ros.proximity.shared import SharedState
from proxqa_ros.proximity.worker import Worker
from proxqa_ros.srv import LoadAdapter

Response = LoadAdapter.Response


class AdapterServices:
    """The services' callbacks.

    Args:
        shared: What the node's parts share.
        logger: The node's logger.
    """

    def __init__(self, shared: SharedState, logger: Any) -> None:
        self._shared, self._logger = shared, logger
        self._folder: AdaptersFolder | None = None  # None = nothing may be loaded by name
        self._configured: str | None = None

    def configure(self, folder: str, adapter: str) -> None:
        """Take the parameters `adapters_folder` and `adapter`. Raises BadParameterError."""
        self._folder = AdaptersFolder(folder) if folder else None
        self._configured = adapter or None

    @property
    def configured_adapter(self) -> str | None:
        """The adapter that the node is configured with; None = the model's own."""
        return self._configured

    def release(self) -> None:
        """The model is gone."""
        self._folder = None
        self._shared.adapter_in_use = ""

    def on_load(self, request: Any, response: Any) -> Any:
        """Answer a LoadAdapter request."""
        shared, started, name = self._shared, time.perf_counter(), request.adapter
        try:
            self._load(name)
            response.success, response.error_code = True, response.NONE
        except Exception as error:
            adapters.fill_refusal(response, error)
            self._logger.warning(f"adapter not loaded: {response.message}")
        response.adapter, response.model = shared.adapter_in_use, shared.model_name
        response.seconds = time.perf_counter() - started
        if response.success:
            what = f"adapter {name!r}" if name else "the configured adapter"
            self._logger.info(f"{what} is in use now (model {response.model!r}), after {response.seconds:.1f} s")
        return response

    def on_list(self, request: Any, response: Any) -> Any:
        """Answer a ListAdapters request."""
        del request
        try:
            response.adapters = self._describe()
            response.success, response.error_code = True, response.NONE
        except Exception as error:
            adapters.fill_refusal(response, error)
        response.in_use = self._shared.adapter_in_use
        return response

    def _load(self, name: str) -> None:
        """Have an adapter take over within the adapter_timeout. Raises what `adapters.error_code` knows."""
        worker, folder = self._ready()
        adapter: Path | str | None = folder.find(name) if name else self._configured

        def then(engine: AdaptableEngine) -> None:
            self._shared.model_name, self._shared.adapter_in_use = engine.model_name, name
            self._shared.calibrator.reset()

        timeout_s = self._shared.parameters.adapter_timeout
        future = worker.swap_engine(lambda engine: engine.with_adapter(adapter), then)
        if not self._shared.wait_for(future, timeout_s) and future.cancel():
            raise RefusedError(
                Response.TIMEOUT,
                f"not loaded within {timeout_s:g} s (parameter adapter_timeout); what was in use before goes on",
            )
        future.result()

    def _describe(self) -> list[Any]:
        """The adapters there are, within the query_timeout. Raises what `adapters.error_code` knows."""
        worker, folder = self._ready()
        timeout_s = self._shared.parameters.query_timeout
        future = worker.inspect(lambda engine: folder.describe(engine, self._shared.adapter_in_use))
        if not self._shared.wait_for(future, timeout_s) and future.cancel():
            raise RefusedError(Response.TIMEOUT, f"no list within {timeout_s:g} s (parameter query_timeout)")
        return future.result()

    def _ready(self) -> tuple[Worker, AdaptersFolder]:
        """RefusedError where no model is loaded or no folder is configured."""
        worker, folder = self._shared.loaded_worker(Response.MODEL_NOT_LOADED), self._folder
        if folder is None:
            raise RefusedError(
                Response.FORBIDDEN,
                "no adapter may be loaded by name; set the parameter adapters_folder before the node is configured",
            )
        return worker, folder
