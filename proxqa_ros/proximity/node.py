"""The lifecycle node `proximity`: camera images in, depths of named objects out, questions answered.

Promises: no callback ever runs the model (one worker thread does), so parameters, services and diagnostics keep
answering while it computes; every request gets a response; whatever comes in, the node stays alive. Holds no model
code: see `worker` for the frames' and queries' way, `queries` for requests and responses, `conversions` for images.

Query and adapter callbacks wait for their answer: spin the node in a CalmExecutor of `threads_needed` threads.
"""

from __future__ import annotations

import concurrent.futures
import copy
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, Range
from std_msgs.msg import Float64
from std_srvs.srv import SetBool

from proxqa_core.errors import BadImageError, BadObjectError
from proxqa_core.types import ObjectDepth, ObjectQuery, clean_text
from proxqa_ros.common.camera import BadCameraError, Camera
from proxqa_ros.common.conversions import (
    Pixels,
    TooManyObjectsError,
    check_message,
    depths_to_message,
    image_to_rgb,
    object_queries,
    rgb_to_image,
)
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.executor import HandoverExecutor, spin
from proxqa_ros.common.lifecycle import AutostartNode
from proxqa_ros.common.parameters import declare, named_objects
from proxqa_ros.common.qos import (
    MANY_QUERIES,
    NEWEST_BEST_EFFORT,
    RELIABLE,
    SENSOR_DATA,
    Endpoint,
    incompatible_endpoints,
)
from proxqa_ros.common.stamps import nanoseconds
from proxqa_ros.distance import known_sizes
from proxqa_ros.distance.calibrator import DistanceCalibrator, no_lens
from proxqa_ros.distance.scan import CameraPose
from proxqa_ros.msg import ObjectDepthArray
from proxqa_ros.proximity import adapters, parameters, queries
from proxqa_ros.proximity.adapters import AdaptersFolder
from proxqa_ros.proximity.detections import NOT_INSTALLED, Detection2DArray, Detections, Pair
from proxqa_ros.proximity.markers import MarkerArray, place, to_markers
from proxqa_ros.proximity.timing import Timing
from proxqa_ros.proximity.worker import Engine, FrameState, StoppedError, Stream, Worker
from proxqa_ros.srv import ListAdapters, LoadAdapter, ProximityQuery, SetObjects

EngineLoader = Callable[[str, str | None, str], Engine]
"""(model, adapter or None, device) → engine; raises ProxqaError."""

NO_EVENTS = {"use_default_callbacks": False}
"""For what is destroyed while the executor spins: rclpy 9 raises InvalidHandle out of spin() when it meets the event
handler of a publisher or subscription that was destroyed a moment ago."""
QUIET = 5.0
"""Seconds between two log lines about bad frames."""
PATIENCE = 5.0
"""Seconds that an interrupted process waits for what the model is doing."""
TICK = 0.5
"""Seconds in which the process looks at least once whether it is still wanted."""
OTHER_THREADS = 7
"""Threads for everything but queries: images, what is measured beside them, lifecycle, parameters, diagnostics,
adapters, and one query to be told BUSY."""
DIAGNOSTICS_PERIOD_S = 1.0
"""Time between two diagnostic statuses, in seconds."""

Success = TransitionCallbackReturn.SUCCESS
Failure = TransitionCallbackReturn.FAILURE


def load_engine(source: str, adapter: str | None, device: str) -> Engine:
    """The real engine; torch is imported here, not with the module."""
    from proxqa_core.engine import ProximityEngine

    return ProximityEngine.load(source=source, adapter=adapter, device=device)


class ProximityNode(AutostartNode):
    """See the module. engine_loader: makes the engine, on the worker's thread; other arguments are rclpy's."""

    def __init__(self, engine_loader: EngineLoader = load_engine, **kwargs: Any) -> None:
        super().__init__("proximity", **kwargs)
        self._load_engine = engine_loader
        self._worker: Worker | None = None
        self._model_name = ""
        self._adapters: AdaptersFolder | None = None  # None = nothing may be loaded by name
        self._configured_adapter: str | None = None
        self._adapter_in_use = ""
        """Name that load_adapter was given for what answers now; '' = what the node was configured with."""
        self._active = False
        self._enabled = True
        self._objects: tuple[ObjectQuery, ...] | None = None  # None = not read from the parameter yet
        self._fault = ""
        """Why the last transition failed, '' = it did not."""
        self._seen_at_last_tick = (time.perf_counter(), 0, 0)
        self._metres = DistanceCalibrator()
        self._detections = Detections()
        self._use_detections = False
        self._subscriptions_on: list[Any] = []  # while active
        self._endpoints: list[Endpoint] = []
        self._depths_publisher: Any = None
        self._debug_publisher: Any = None
        self._markers_publisher: Any = None
        self._timing: Timing | None = None
        self._camera_info: CameraInfo | None = None
        self._camera_problem = ""
        declare(self, parameters.SPECS)
        self.threads_needed = int(self.get_parameter("max_queued_queries").value) + OTHER_THREADS

        self._images_group = MutuallyExclusiveCallbackGroup()
        self._measured_group = MutuallyExclusiveCallbackGroup()
        status_group = MutuallyExclusiveCallbackGroup()
        self.create_service(
            ProximityQuery,
            "proximity_query",
            self._on_query,
            qos_profile=MANY_QUERIES,
            callback_group=ReentrantCallbackGroup(),
        )
        # in the default group, which lifecycle and parameter services share: no two of them at once
        self.create_service(SetObjects, "set_objects", self._on_set_objects)
        adapters_group = MutuallyExclusiveCallbackGroup()  # one at a time; the next one waits outside
        self.create_service(LoadAdapter, "load_adapter", self._on_load_adapter, callback_group=adapters_group)
        self.create_service(ListAdapters, "list_adapters", self._on_list_adapters, callback_group=adapters_group)
        self.create_service(SetBool, "~/enable", self._on_enable, callback_group=status_group)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._on_diagnostics, callback_group=status_group, clock=self.steady_clock
        )
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_were_set)
        self.autostart()

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and load the model. FAILURE with one line logged where that fails."""
        started = time.perf_counter()
        try:
            chosen = parameters.read(self)
            self._adopt(chosen.objects)
            self._adapters = AdaptersFolder(chosen.adapters_folder) if chosen.adapters_folder else None
            self._configured_adapter = chosen.adapter or None
            self._metres.reset()
            self._apply()
            self._worker = Worker(
                load=lambda: self._load_engine(chosen.model, self._configured_adapter, chosen.device),
                decode=self._decode,
                publish=self._publish,
                report=self._report,
                max_queries=chosen.max_queued_queries,
            )
            self._worker.start()
            self._model_name = self._wait_until_loaded(self._worker)
        except Exception as error:
            if self.context.ok():  # else: interrupted, and nothing can be logged any more
                self._fault = f"cannot configure: {one_line(error)}"
                self.get_logger().error(self._fault)
                self.release()
            return Failure
        self._fault = ""
        self._depths_publisher = self.create_lifecycle_publisher(
            ObjectDepthArray, "object_depths", RELIABLE, event_callbacks=PublisherEventCallbacks(**NO_EVENTS)
        )
        self._debug_publisher = self.create_lifecycle_publisher(
            Image, "~/debug/image", RELIABLE, event_callbacks=PublisherEventCallbacks(**NO_EVENTS)
        )
        if MarkerArray is not None:
            self._markers_publisher = self.create_lifecycle_publisher(
                MarkerArray, "markers", RELIABLE, event_callbacks=PublisherEventCallbacks(**NO_EVENTS)
            )
        self._timing = Timing(
            lambda topic: self.create_lifecycle_publisher(
                Float64, topic, RELIABLE, event_callbacks=PublisherEventCallbacks(**NO_EVENTS)
            )
        )
        for publisher in self._outputs():
            self._endpoints.append(Endpoint.of(publisher, subscribes=False))
        self.get_logger().info(f"model {self._model_name!r} loaded in {time.perf_counter() - started:.1f} s")
        return super().on_configure(state)

    def _wait_until_loaded(self, worker: Worker) -> str:
        if not self._wait_for(worker.loaded, math.inf):
            raise StoppedError("the node was shut down while the model was loading")
        return worker.loaded.result()

    def _wait_for(self, future: concurrent.futures.Future[Any], seconds: float) -> bool:
        """Whether the future is done in time; no longer than the process is let live."""
        end = time.perf_counter() + seconds
        while not future.done() and self.context.ok() and (left := end - time.perf_counter()) > 0:
            concurrent.futures.wait([future], timeout=min(left, 0.2))
        return future.done()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start to answer."""
        result = super().on_activate(state)
        self._active = True
        self._update_stream()
        try:
            self._subscribe_all()
        except Exception as error:  # a QoS override that cannot be used
            self._fault = f"cannot activate: {one_line(error)}"
            self.get_logger().error(self._fault)
            self._stop_looking()
            super().on_deactivate(state)
            return Failure
        self._fault = ""
        return result

    def _subscribe_all(self) -> None:
        transport = self.get_parameter("image_transport").value
        kind, topic = (CompressedImage, "image/compressed") if transport == "compressed" else (Image, "image")
        camera = self._subscribe(kind, topic, self._on_image, NEWEST_BEST_EFFORT, self._images_group)
        self._subscribe(Image, "depth", self._metres.add_depth_image, SENSOR_DATA, self._measured_group)
        self._subscribe(Range, "range", self._metres.add_range, SENSOR_DATA, self._measured_group)
        self._subscribe(LaserScan, "scan", self._metres.add_scan, SENSOR_DATA, self._measured_group)
        self._subscribe(CameraInfo, "camera_info", self._on_camera_info, SENSOR_DATA, self._measured_group)
        if Detection2DArray is not None:
            self._subscribe(Detection2DArray, "detections", self._on_detections, SENSOR_DATA, self._measured_group)
        self.get_logger().info(f"active: images from {camera.topic_name}")

    def _subscribe(self, kind: Any, topic: str, callback: Any, qos: QoSProfile, group: CallbackGroup) -> Any:
        """A subscription until the node is deactivated; `qos` is the default of its QoS overrides."""
        subscription = self.create_subscription(
            kind,
            topic,
            callback,
            copy.copy(qos),  # rclpy writes the overrides into it
            callback_group=group,
            event_callbacks=SubscriptionEventCallbacks(**NO_EVENTS),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._subscriptions_on.append(subscription)
        self._endpoints.append(Endpoint.of(subscription, subscribes=True))
        return subscription

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop looking at images and forget the newest; the model stays loaded."""
        self._stop_looking()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model go."""
        self.release()
        return Success

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let everything go."""
        self.release()
        return Success

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let everything go; the node can be configured again."""
        self.release()
        return Success

    def _stop_looking(self) -> None:
        self._active = False
        self._update_stream()
        self._endpoints = [e for e in self._endpoints if not e.subscribes]
        self._camera_info, self._camera_problem = None, ""
        self._detections.clear()
        if self._timing is not None:
            self._timing.pause()
        while self._subscriptions_on:
            self.destroy_subscription(self._subscriptions_on.pop())
        if self._worker is not None:
            self._worker.forget("the node was deactivated")

    def release(self, timeout: float | None = None) -> bool:
        """End the worker and let the model go, from whatever state; queries that wait are refused. Repeatable.

        timeout: longest wait for what the model is doing, in seconds. Whether the worker has ended.
        """
        self._stop_looking()
        worker, self._worker = self._worker, None
        ended = worker is None or worker.stop(timeout)
        self._model_name = self._adapter_in_use = ""
        self._adapters = None
        for publisher in self._outputs():
            self.destroy_lifecycle_publisher(publisher)
        self._depths_publisher = self._debug_publisher = self._markers_publisher = self._timing = None
        self._endpoints = []
        return ended

    def _outputs(self) -> list[Any]:
        """Those that there are from configure to cleanup."""
        every = (self._depths_publisher, self._debug_publisher, self._markers_publisher)
        timing = [] if self._timing is None else self._timing.publishers
        return [*(publisher for publisher in every if publisher is not None), *timing]

    def destroy_node(self) -> None:
        """End the worker, then the node."""
        self.release()
        super().destroy_node()

    # -- images ------------------------------------------------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage) -> None:
        worker = self._worker
        if worker is None or not self._active:
            return
        try:
            check_message(message)
        except BadImageError as error:
            worker.reject(error)
        else:
            if self._use_detections:
                self._push_frame(worker, self._detections.add_image(message))
            else:
                worker.push_frame(message)

    def _on_detections(self, message: Any) -> None:
        worker = self._worker
        if worker is not None and self._active and self._use_detections:
            self._push_frame(worker, self._detections.add(message))

    @staticmethod
    def _push_frame(worker: Worker, pair: Pair | None) -> None:
        if pair is not None:
            worker.push_frame(pair.image, pair.objects)

    def _decode(self, message: Image | CompressedImage) -> Pixels:
        """On the worker's thread, when it takes a frame."""
        self._metres.expect(message.header.stamp)
        return image_to_rgb(message)

    def _publish(self, shot: FrameState, depths: tuple[ObjectDepth, ...], engine: Engine) -> None:
        """On the worker's thread: the depths, and the debug image where someone looks at it."""
        if not self._active or not self.context.ok():
            return
        started = time.perf_counter()
        height, width = shot.image.shape[:2]
        self._metres.learn(shot.header, width, height, depths, lambda: self._camera(shot))
        depths = self._metres.fill(shot.header, depths)
        message = depths_to_message(shot.header, engine.model_name, depths)
        worked = shot.worked + time.perf_counter() - started
        self._depths_publisher.publish(message)
        if self._timing is not None:
            self._timing.published(nanoseconds(shot.header.stamp), worked, lambda: self.get_clock().now().nanoseconds)
        if self.get_parameter("publish_debug_image").value and self._debug_publisher.get_subscription_count() > 0:
            from proxqa_core.vision.drawing import annotate

            self._debug_publisher.publish(rgb_to_image(annotate(shot.image, depths), shot.header))
        if self._markers_publisher is not None and self._markers_publisher.get_subscription_count() > 0:
            self._publish_markers(shot, depths)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _camera(self, shot: FrameState) -> Camera:
        """The lens that the frame was taken through. Raises BadCameraError."""
        info = self._camera_info
        if info is None:
            return no_lens()
        height, width = shot.image.shape[:2]
        return Camera(info, shot.header, width, height, bool(self.get_parameter("image_rectified").value))

    def _publish_markers(self, shot: FrameState, depths: Sequence[ObjectDepth]) -> None:
        """Where the objects are, as far as that is known; an empty array where it is not."""
        try:
            placed, problem = place(self._camera(shot), depths), ""
        except BadCameraError as error:
            placed, problem = [], one_line(error)
        self._camera_problem = problem
        self._markers_publisher.publish(to_markers(shot.header, placed))

    def _report(self, text: str) -> None:
        self.get_logger().warning(f"frame not used: {text}", throttle_duration_sec=QUIET)

    def _update_stream(self) -> None:
        if self._worker is not None:
            self._worker.set_stream(
                Stream(
                    objects=self._objects or (),
                    rate=float(self.get_parameter("rate").value),
                    on=self._active and self._enabled,
                    detected=self._use_detections,
                )
            )

    # -- services ----------------------------------------------------------------------------------------------------

    def _on_query(self, request: ProximityQuery.Request, response: ProximityQuery.Response) -> ProximityQuery.Response:
        started = time.perf_counter()
        try:
            reply = self._ask(request)
        except Exception as error:
            queries.refuse(response, error, time.perf_counter() - started)
            if response.error_code == ProximityQuery.Response.INTERNAL:
                self.get_logger().error(f"query failed: {response.message}")
            return response
        return queries.fill(response, reply, time.perf_counter() - started)

    def _ask(self, request: ProximityQuery.Request) -> queries.Reply:
        """Have the worker answer the request, within the query_timeout. Raises what `queries.error_code` knows."""
        question = queries.parse(request, self._objects or (), float(self.get_parameter("max_image_age").value))
        worker = self._worker
        if worker is None or not worker.loaded.done():
            self._refuse_for_state(ProximityQuery.Response.MODEL_NOT_LOADED)
        if not self._active:
            self._refuse_for_state(ProximityQuery.Response.NOT_ACTIVE)

        def run(shot: FrameState | None, engine: Engine) -> queries.Reply:
            now, last_error = self.get_clock().now().nanoseconds, worker.counts().last_error
            shot = queries.check_age(shot, now, question.max_age, last_error)
            answer = queries.answer(question, worker.encoded_of(shot, engine))
            return queries.Reply(
                replace(answer, objects=self._metres.fill(shot.header, answer.objects)), shot.header.stamp
            )

        if self._use_detections and (newest := self._detections.newest_image()) is not None:
            worker.push_frame(newest)  # a question does not wait for detections
        timeout = float(self.get_parameter("query_timeout").value)
        future = worker.submit(run)
        if not self._wait_for(future, timeout):
            future.cancel()
            raise queries.RefusedError(
                ProximityQuery.Response.TIMEOUT, f"no answer within {timeout:g} s (parameter query_timeout)"
            )
        return future.result()

    def _refuse_for_state(self, code: int) -> NoReturn:
        why = f" ({self._fault})" if self._fault else ""
        raise queries.RefusedError(code, f"the node is {self.state}{why}; configure and activate it first")

    def _on_set_objects(self, request: SetObjects.Request, response: SetObjects.Response) -> SetObjects.Response:
        before = self._objects
        try:
            wanted = object_queries(request.objects, request.regions)
            self._objects = wanted  # with regions; the parameter holds the names only
            result = self.set_parameters([_names_parameter(wanted)])[0]
            if not result.successful:
                raise RuntimeError(result.reason)
        except BadObjectError as error:
            too_many = isinstance(error, TooManyObjectsError)
            response.error_code = response.TOO_MANY_OBJECTS if too_many else response.BAD_REQUEST
            response.message = one_line(error)
        except Exception as error:
            self._objects = before
            response.error_code, response.message = response.INTERNAL, one_line(error)
            self.get_logger().error(f"set_objects failed: {response.message}")
        response.success = response.error_code == response.NONE
        response.objects = [q.name for q in self._objects or ()]
        return response

    def _on_load_adapter(self, request: LoadAdapter.Request, response: LoadAdapter.Response) -> LoadAdapter.Response:
        started, name = time.perf_counter(), request.adapter
        try:
            self._take_adapter(name)
            response.success, response.error_code = True, response.NONE
        except Exception as error:
            adapters.refuse(response, error)
            self.get_logger().warning(f"adapter not loaded: {response.message}")
        response.adapter, response.model = self._adapter_in_use, self._model_name
        response.seconds = time.perf_counter() - started
        if response.success:
            what = f"adapter {name!r}" if name else "the configured adapter"
            self.get_logger().info(f"{what} answers now (model {response.model!r}), after {response.seconds:.1f} s")
        return response

    def _take_adapter(self, name: str) -> None:
        """Have an adapter take over, within the adapter_timeout. Raises what `adapters.error_code` knows."""
        worker, folder = self._ready_for_adapters()
        adapter: Path | str | None = folder.find(name) if name else self._configured_adapter

        def then(engine: Engine) -> None:
            self._model_name, self._adapter_in_use = engine.model_name, name
            self._metres.unlearn()

        timeout = float(self.get_parameter("adapter_timeout").value)
        future = worker.change(lambda engine: engine.with_adapter(adapter), then)
        if not self._wait_for(future, timeout) and future.cancel():
            raise queries.RefusedError(
                LoadAdapter.Response.TIMEOUT,
                f"not loaded within {timeout:g} s (parameter adapter_timeout); what answered before goes on",
            )
        future.result()

    def _on_list_adapters(
        self, request: ListAdapters.Request, response: ListAdapters.Response
    ) -> ListAdapters.Response:
        try:
            worker, folder = self._ready_for_adapters()
            timeout = float(self.get_parameter("query_timeout").value)
            future = worker.inspect(lambda engine: folder.describe(engine, self._adapter_in_use))
            if not self._wait_for(future, timeout) and future.cancel():
                raise queries.RefusedError(response.TIMEOUT, f"no list within {timeout:g} s (parameter query_timeout)")
            response.adapters = future.result()
            response.success, response.error_code = True, response.NONE
        except Exception as error:
            adapters.refuse(response, error)
        response.in_use = self._adapter_in_use
        return response

    def _ready_for_adapters(self) -> tuple[Worker, AdaptersFolder]:
        """RefusedError where no model is loaded or no folder is configured."""
        worker, folder = self._worker, self._adapters
        if worker is None or not worker.loaded.done():
            self._refuse_for_state(LoadAdapter.Response.MODEL_NOT_LOADED)
        if folder is None:
            raise queries.RefusedError(
                LoadAdapter.Response.FORBIDDEN,
                "no adapter may be loaded by name; set the parameter adapters_folder before the node is configured",
            )
        return worker, folder

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Pause or resume `object_depths`; queries are answered either way."""
        self._enabled = bool(request.data)
        if self._timing is not None:
            self._timing.pause()
        self._update_stream()
        response.success = True
        response.message = f"object_depths is {'enabled' if self._enabled else 'paused'}; the node is {self.state}"
        return response

    # -- parameters --------------------------------------------------------------------------------------------------

    def _are_the_objects(self, names: Sequence[str] | None) -> bool:
        """Whether these names are the objects as they are; set_objects may have given them regions."""
        return self._objects is not None and list(names or ()) == [q.name for q in self._objects]

    def _adopt(self, names: Sequence[str] | None) -> None:
        """Make the parameter's names the objects, unless they are. Raises BadParameterError."""
        if not self._are_the_objects(names):
            self._objects = named_objects(names)

    def _on_set_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        changes = [c for c in changes if c.name != "objects" or not self._are_the_objects(c.value)]
        reason = parameters.refusal(changes, configured=self._worker is not None)
        return SetParametersResult(successful=not reason, reason=reason)

    def _on_parameters_were_set(self, changes: Sequence[Parameter]) -> None:
        for change in changes:
            if change.name == "objects":
                self._adopt(change.value)
        if self._worker is not None:  # else they are applied, and checked, when it is configured
            self._apply()
        self._update_stream()

    def _apply(self) -> None:
        """Give the parameters, which are checked, to what measures and to what detects."""
        value = {name: self.get_parameter(name).value for name in parameters.SPECS}
        metres, detections = self._metres, self._detections
        metres.tolerance = detections.tolerance = float(value["sync_tolerance"])
        metres.range_object = clean_text(value["range_object"])
        metres.camera_pose = CameraPose.of(value["camera_in_scan"])
        metres.scan_objects = tuple(q.name for q in named_objects(value["scan_objects"]))
        metres.known_sizes = known_sizes.parse(value["known_sizes"])
        metres.set_memory(float(value["calibration_memory"]))
        detections.min_score = float(value["detection_min_score"])
        if self._use_detections != bool(value["use_detections"]):
            self._use_detections = bool(value["use_detections"])
            detections.clear()

    # -- diagnostics -------------------------------------------------------------------------------------------------

    def _on_diagnostics(self) -> None:
        status = self._status()
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(array)

    def _status(self) -> DiagnosticStatus:
        worker, now = self._worker, time.perf_counter()
        values: dict[str, str] = {
            "state": self.state,
            "model": self._model_name,
            **self._engine_values(),
            "adapter_loaded": self._adapter_in_use,
            "enabled": str(self._enabled).lower(),
            "objects": ", ".join(q.name for q in self._objects or ()),
        }
        level, message = DiagnosticStatus.OK, self.state
        if self._fault:
            level, message = DiagnosticStatus.ERROR, self._fault
        elif worker is None:
            level, message = DiagnosticStatus.WARN, f"{self.state}: no model is loaded"
        unheard = incompatible_endpoints(self, list(self._endpoints)) if self._active else []
        values |= self._calibration_values() | {"qos_problems": "; ".join(unheard)}
        if worker is not None:
            counts, header = worker.counts(), worker.newest_header()
            then, published, troubles = self._seen_at_last_tick
            trouble = counts.bad + counts.failed
            rate = max(0, counts.published - published) / max(now - then, 1e-6)
            self._seen_at_last_tick = (now, counts.published, trouble)
            age = math.nan
            if header is not None:
                age = (self.get_clock().now().nanoseconds - nanoseconds(header.stamp)) / 1e9
            values |= {
                "rate_hz": f"{rate:.2f}",
                "frames_received": str(counts.received),
                "frames_answered": str(counts.answered),
                "frames_dropped": str(counts.dropped),
                "frames_bad": str(counts.bad),
                "frames_failed": str(counts.failed),
                "queries": str(counts.queries),
                "queries_waiting": str(worker.queued()),
                "image_age_s": f"{age:.3f}",
                "last_error": counts.last_error,
            }
            limit = float(self.get_parameter("max_image_age").value)
            whose = "with detections " if self._use_detections else ""
            if self._active and trouble > troubles:
                level, message = DiagnosticStatus.WARN, f"{trouble - troubles} frames not used: {counts.last_error}"
            elif self._active and unheard:
                level, message = DiagnosticStatus.WARN, unheard[0]
            elif self._active and self._use_detections and self._detections.problem:
                level, message = DiagnosticStatus.WARN, self._detections.problem
            elif self._active and self._use_detections and not self._detections.matched:
                level, message = DiagnosticStatus.WARN, "no detections have come that belong to an image"
            elif self._active and header is None:
                level, message = DiagnosticStatus.WARN, "no usable image has arrived yet"
            elif self._active and 0 < limit < age:
                level, message = DiagnosticStatus.WARN, f"the newest image {whose}is {age:.1f} s old"
            elif self._active and 0 < limit < -age:
                ahead = f"is stamped {-age:.1f} s ahead of the clock"
                level, message = DiagnosticStatus.WARN, f"the newest image {whose}{ahead}"
            elif self._active and self._metres.problem:
                level, message = DiagnosticStatus.WARN, f"no metres learned: {self._metres.problem}"
            elif self._active and self._camera_problem:
                level, message = DiagnosticStatus.WARN, f"no markers: {self._camera_problem}"
        return DiagnosticStatus(
            level=level,
            name=f"{self.get_fully_qualified_name().lstrip('/')}: proximity",
            message=message,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _engine_values(self) -> dict[str, str]:
        """What the model runs on and with, as far as the engine says; empty while there is none."""
        about = {} if self._worker is None else self._worker.about
        values = {key: str(about[key]) for key in ("backend", "device", "dtype") if about.get(key) is not None}
        return values | {"adapter": clean_text(str(about.get("adapter") or "none")) if about else ""}

    def _calibration_values(self) -> dict[str, str]:
        state = self._metres.state()
        return {
            "calibration": f"{'trusted' if state.trusted else 'not trusted'}: {state.reason}",
            "calibration_samples": f"{state.samples:.1f}",
            "calibration_spread": f"{state.spread:.2f}",
            "calibration_inliers": f"{state.inliers:.2f}",
            "calibration_error": f"{state.error:.3f}",
            "depth_images": str(self._metres.depth_images),
            "range_readings": str(self._metres.range_readings),
            "scans": str(self._metres.scans),
            "detections_received": str(self._detections.received),
            "detections_matched": str(self._detections.matched),
            "detections": self._detections.problem if Detection2DArray is not None else NOT_INSTALLED,
            "markers": "visualization_msgs is not installed" if MarkerArray is None else self._camera_problem,
        }


def _names_parameter(objects: Sequence[ObjectQuery]) -> Parameter:
    return Parameter("objects", Parameter.Type.STRING_ARRAY, [q.name for q in objects])


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted. Exit code: 0, or 2 where its parameters cannot be used."""
    # rclpy ends its context on SIGINT and then calls the handler that was there before: not the one that raises
    # KeyboardInterrupt wherever the program happens to be
    signal.signal(signal.SIGINT, lambda *_: None)
    rclpy.init(args=None if args is None else list(args))
    try:
        node = ProximityNode()
    except ParameterException as error:
        print(f"proximity_node: {' '.join(str(error).split())}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    except Exception:
        if rclpy.ok():
            raise
        return 0  # interrupted while starting
    executor = HandoverExecutor(node.threads_needed)
    executor.add_node(node)
    try:
        spin(executor, node, lambda: False, TICK)
    finally:
        ended = node.release(timeout=PATIENCE)
        executor.shutdown(timeout_sec=PATIENCE)
        node.destroy_node()
        rclpy.try_shutdown()
    if not ended:  # the model is still loading or computing, and native code cannot be interrupted
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0
