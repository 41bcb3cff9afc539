"""The service `proximity_query`: has the worker answer a request about the newest image, in time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from proxqa_core.protocols import AdaptableEngine
from proxqa_ros.proximity import queries
from proxqa_ros.proximity.shared import SharedState
from proxqa_ros.proximity.worker import FrameState
from proxqa_ros.srv import ProximityQuery

Response = ProximityQuery.Response


class QueryService:
    """The service's callback.

    Args:
        shared: What the node's parts share.
        logger: The node's logger.
    """

    def __init__(self, shared: SharedState, logger: Any) -> None:
        self._shared, self._logger = shared, logger

    def on_query(self, request: Any, response: Any) -> Any:
        """Answer a request, whatever it is."""
        started = time.perf_counter()
        try:
            reply = self._reply(request)
        except Exception as error:
            queries.fill_refusal(response, error, time.perf_counter() - started)
            if response.error_code == Response.INTERNAL:
                self._logger.error(f"query failed: {response.message}")
            return response
        return queries.fill_answer(response, reply, time.perf_counter() - started)

    def _reply(self, request: Any) -> queries.Reply:
        """Have the worker answer within the query_timeout. Raises what `queries.error_code` knows."""
        shared, parameters = self._shared, self._shared.parameters
        question = queries.parse(request, shared.objects or (), parameters.max_image_age)
        worker = shared.loaded_worker(Response.MODEL_NOT_LOADED)
        if not shared.active:
            shared.refuse(Response.NOT_ACTIVE)

        def run(frame: FrameState | None, engine: AdaptableEngine) -> queries.Reply:
            frame = queries.check_age(frame, shared.now_ns(), question.max_age_s, worker.counts().last_error)
            answer = queries.answer(question, worker.encoded_image(frame, engine))
            objects = shared.calibrator.annotate(frame.header, answer.objects)
            return queries.Reply(replace(answer, objects=objects), frame.header.stamp)

        if parameters.use_detections and (newest := shared.detections.newest_image()) is not None:
            worker.push_frame(newest)  # a question does not wait for detections
        timeout_s = parameters.query_timeout
        future = worker.submit(run, asks=(question.text, question.objects))
        if not shared.wait_for(future, timeout_s):
            future.cancel()
            raise queries.RefusedError(Response.TIMEOUT, f"no answer within {timeout_s:g} s (parameter query_timeout)")
        return future.result()
