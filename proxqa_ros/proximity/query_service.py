"""The service `proximity_query`: has the worker answer a request about the newest image, in time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from proxqa_core.protocols import AdaptableEngine
from proxqa_ros.common.stamps import NS_PER_S, nanoseconds
from proxqa_ros.proximity import queries
from proxqa_ros.proximity.shared import SharedState
from proxqa_ros.proximity.worker import FrameState, Worker
from proxqa_ros.srv import ProximityQuery

Response = ProximityQuery.Response
DETECTIONS_FRESH_S = 1.0
"""Oldest image with detections that a question without objects is about; else the newest image, whose have not come."""


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
        detected = parameters.use_detections and question.names_nothing
        worker = shared.loaded_worker(Response.MODEL_NOT_LOADED)
        if not shared.active:
            shared.refuse(Response.NOT_ACTIVE)

        def run(frame: FrameState | None, engine: AdaptableEngine) -> queries.Reply:
            frame = queries.check_age(frame, shared.now_ns(), question.max_age_s, worker.counts().last_error)
            asked = _about_detected(question, frame) if detected else question
            answer = queries.answer(asked, worker.encoded_image(frame, engine))
            objects = shared.calibrator.annotate(frame.header, answer.objects)
            return queries.Reply(replace(answer, objects=objects), frame.header.stamp)

        waits = not parameters.use_detections or (detected and self._has_detected(worker))
        if not waits and (newest := shared.detections.newest_image()) is not None:
            worker.push_frame(newest)  # a question does not wait for detections
        timeout_s = parameters.query_timeout
        future = worker.submit(run, asks=None if detected else (question.text, question.objects))
        if not shared.wait_for(future, timeout_s):
            future.cancel()
            raise queries.RefusedError(Response.TIMEOUT, f"no answer within {timeout_s:g} s (parameter query_timeout)")
        return future.result()

    def _has_detected(self, worker: Worker) -> bool:
        """Whether the worker's newest frame is a recent one whose detections have come."""
        header = self._shared.detections.matched_header
        if header is None or worker.newest_header() is not header:
            return False
        return bool(0 <= self._shared.now_ns() - nanoseconds(header.stamp) <= DETECTIONS_FRESH_S * NS_PER_S)


def _about_detected(question: queries.Question, frame: FrameState) -> queries.Question:
    """The question about what was detected in a frame; as it is where no detections have come for that."""
    if frame.objects is None:
        return question
    height, width = frame.image.shape[:2]
    return queries.about_detected(question, frame.objects(width, height))
