"""The lifecycle node `proximity`: camera images in, depths of named objects out, questions answered.

Promises: no callback ever runs the model (one worker thread does), so parameters, services and diagnostics keep
answering while it computes; every request gets a response; whatever comes in, the node stays alive. This module is the
lifecycle; the parts that it connects are `worker` (frames, queries and the model), `pipeline` (a frame's way) with
`inputs`, `detections` and `outputs`, `query_service`, `adapter_services`, `objects`, `diagnostics`, and
`proxqa_ros.distance` (relative depth → metres).

Callbacks of queries and adapters wait for their answer: spin the node in a HandoverExecutor with `threads_needed`
threads.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool

from proxqa_core.backends.config import BackendConfig
from proxqa_core.memory import keep_one_heap
from proxqa_core.protocols import AdaptableEngine
from proxqa_ros.common import shared_memory
from proxqa_ros.common.bond import LifecycleBond
from proxqa_ros.common.errors import one_line
from proxqa_ros.common.executor import HandoverExecutor, spin
from proxqa_ros.common.lifecycle import AutostartNode
from proxqa_ros.common.parameters import (
    ALLOW_REMOTE,
    declare,
    warn_of_unknown,
)
from proxqa_ros.common.qos import (
    LATCHED,
    MANY_QUERIES,
    NEWEST_BEST_EFFORT,
    RELIABLE,
    SENSOR_DATA,
    incompatible_endpoints,
)
from proxqa_ros.common.remaps import loss_remedy, silent_topic, warn_of_unmatched
from proxqa_ros.common.start import CANNOT_START, init_ros, refuse, said_at_start
from proxqa_ros.distance.calibrator import DistanceCalibrator
from proxqa_ros.distance.depth_image import TRANSPORTS as DEPTH_TRANSPORTS
from proxqa_ros.distance.registry import SOURCES
from proxqa_ros.distance.source import DistanceSource
from proxqa_ros.distance.transforms import TransformLookup
from proxqa_ros.proximity import parameters
from proxqa_ros.proximity.adapter_services import AdapterServices
from proxqa_ros.proximity.arrivals import ArrivalCounts
from proxqa_ros.proximity.detections import Detection2DArray, LabelInfo
from proxqa_ros.proximity.diagnostics import Diagnostics
from proxqa_ros.proximity.inputs import Inputs
from proxqa_ros.proximity.objects import ObjectsService
from proxqa_ros.proximity.outputs import Outputs
from proxqa_ros.proximity.pipeline import FramePipeline
from proxqa_ros.proximity.query_service import QueryService
from proxqa_ros.proximity.shared import SharedState
from proxqa_ros.proximity.worker import StoppedError, Worker
from proxqa_ros.srv import ListAdapters, LoadAdapter, ProximityQuery, SetObjects

EngineLoader = Callable[[str, str | None, str, bool, BackendConfig], AdaptableEngine]
"""(model, adapter or None, device, whether a hub may be asked, what runs it) → engine; raises ProxqaError."""

NAMES = (
    *("image", "image/compressed", "camera_info", "detections", "label_info", "range", "scan"),
    *(topic for _, topic in DEPTH_TRANSPORTS.values()),
    *("object_depths", "markers", "/diagnostics", "~/debug/image", "~/debug/pipeline_latency_ms"),
    *("~/debug/processing_time_ms", "~/debug/cyclic_time_ms"),
    *("proximity_query", "set_objects", "load_adapter", "list_adapters", "~/enable"),
)
"""Topics and services of the node, which may be remapped."""
DIAGNOSTICS_PERIOD_S = 1.0
"""Time between two diagnostic statuses, in seconds."""
SHUTDOWN_TIMEOUT_S = 5.0
"""Longest time that an interrupted process waits for the model's running step, in seconds."""
SPIN_PERIOD_S = 0.5
"""Longest time between two checks whether the process is to end, in seconds."""
OTHER_THREADS = 8
"""Threads for everything but queries: images, what is measured with them, TF, lifecycle, parameters, diagnostics,
adapters, and one query to be told BUSY."""

Success = TransitionCallbackReturn.SUCCESS
Failure = TransitionCallbackReturn.FAILURE


def load_engine(
    source: str, adapter: str | None, device: str, allow_download: bool = False, backend: BackendConfig | None = None
) -> AdaptableEngine:
    """The real engine; torch is imported here, not with the module."""
    from proxqa_core.engine import ProximityEngine

    return ProximityEngine.load(
        source=source, adapter=adapter, device=device, allow_download=allow_download, backend=backend
    )


SILENCE_LOG_PERIOD_S = 10.0
"""Least time between two lines on images that do not come, in seconds; the first waits as long."""
SILENCE_S = 5.0
"""Time without an image after which it is said why none may come, in seconds; at once where there never was one."""
ABOUT = "Tells how far named objects in camera images are, and answers questions about them."
"""What --help says."""


class ProximityNode(AutostartNode):
    """See the module.

    Args:
        engine_loader: Makes the engine, on the worker's thread.
        sources: The sources of true distances.
        arguments: The process's command line, whose remappings are checked.
        **kwargs: As of rclpy's LifecycleNode.

    Attributes:
        shared: What the node's parts share.
        inputs: The subscriptions, while it is active.
        pipeline: A frame's way through the node; its `outputs` are the publishers, from configure to cleanup.
        threads_needed: Number of threads that its executor needs.
    """

    def __init__(
        self,
        engine_loader: EngineLoader = load_engine,
        sources: Sequence[type[DistanceSource]] = SOURCES,
        arguments: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__("proximity", **kwargs)
        self._load_engine = engine_loader
        self._was_configured = False
        self._specs = parameters.specs(sources)
        declare(self, self._specs)
        self.shared = SharedState(
            parameters=parameters.Parameters.read(self, self._specs),
            calibrator=DistanceCalibrator(sources),
            transforms=TransformLookup.of_node(self),
            lifecycle_state=lambda: self.state,
            now_ns=lambda: int(self.get_clock().now().nanoseconds),
            is_ok=lambda: bool(self.context.ok()),
            unknown_parameters=warn_of_unknown(self),
            unmatched_remaps=warn_of_unmatched(self, NAMES, [*(arguments or ()), *(kwargs.get("cli_args") or ())]),
        )
        self.threads_needed = self.shared.parameters.max_queued_queries + OTHER_THREADS
        self.inputs = Inputs(self)
        self.pipeline = FramePipeline(self.shared, self.get_logger())
        self._objects = ObjectsService(self.shared, self._set_names, self.get_logger())
        self._queries = QueryService(self.shared, self.get_logger())
        self._adapters = AdapterServices(self.shared, self.get_logger())
        self._bond = LifecycleBond(self, self.shared.parameters.bond_heartbeat_period)
        self._diagnostics = Diagnostics(self.shared, bond=lambda: self._bond.state)
        self._images_group = MutuallyExclusiveCallbackGroup()
        self._sensors_group = MutuallyExclusiveCallbackGroup()
        self._create_services()
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_were_set)
        self.autostart()

    def _create_services(self) -> None:
        self.create_service(
            ProximityQuery,
            "proximity_query",
            self._queries.on_query,
            qos_profile=MANY_QUERIES,
            callback_group=ReentrantCallbackGroup(),
        )
        # in the default group, which the parameter services have too: no two of them at once
        self.create_service(SetObjects, "set_objects", self._objects.on_set_objects)
        adapters_group = MutuallyExclusiveCallbackGroup()  # one at a time; the next one waits outside
        self.create_service(LoadAdapter, "load_adapter", self._adapters.on_load, callback_group=adapters_group)
        self.create_service(ListAdapters, "list_adapters", self._adapters.on_list, callback_group=adapters_group)
        status_group = MutuallyExclusiveCallbackGroup()
        self.create_service(SetBool, "~/enable", self._on_enable, callback_group=status_group)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._on_diagnostics, callback_group=status_group, clock=self.steady_clock
        )

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters and load the model. FAILURE with one line logged where that fails."""
        started = time.perf_counter()
        try:
            self._configure()
        except Exception as error:
            if not self.context.ok():  # interrupted
                self.say_no_more()
                return Failure
            self.shared.fault = f"cannot configure: {one_line(error)}"
            self.get_logger().error(self.shared.fault)
            self.release()
            return Failure
        self.shared.fault, self._was_configured = "", True
        self.pipeline.outputs = Outputs(self, self.shared)
        self.get_logger().info(f"model {self.shared.model_name!r} loaded in {time.perf_counter() - started:.1f} s")
        return super().on_configure(state)

    def _configure(self) -> None:
        shared = self.shared
        shared.parameters = chosen = parameters.Parameters.read(self, self._specs)
        chosen.check(self._specs)
        self._objects.adopt(chosen.objects)
        self._adapters.configure(chosen.adapters_folder, chosen.adapter)
        shared.calibrator.clear()
        self.shared.apply_parameters()
        adapter = self._adapters.configured_adapter
        shared.worker = worker = Worker(
            load=lambda: self._load_engine(
                chosen.model, adapter, chosen.device, chosen.allow_model_download, chosen.backend_config
            ),
            decode=self.pipeline.decode,
            publish=self.pipeline.publish,
            report=self.pipeline.report,
            max_queries=chosen.max_queued_queries,
            batch_window_s=chosen.batch_window,
        )
        worker.start()
        if not shared.wait_for(worker.loaded, math.inf):
            raise StoppedError("the node was shut down while the model was loading")
        shared.model_name = worker.loaded.result()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start to answer."""
        result = super().on_activate(state)
        self.shared.active = True
        self.shared.update_stream()
        try:
            self._subscribe()
        except Exception as error:  # a QoS override that cannot be used
            self.shared.fault = f"cannot activate: {one_line(error)}"
            self.get_logger().error(self.shared.fault)
            self._stop_inputs()
            super().on_deactivate(state)
            return Failure
        self.shared.fault = ""
        self._bond.start()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe from the camera and drop the newest image; the model stays loaded."""
        self._stop_inputs()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; the node can be configured again."""
        self.release()
        return Success

    on_shutdown = on_error = on_cleanup

    def release(self, timeout_s: float | None = None) -> bool:
        """End the worker and unload the model, in any state; waiting queries are refused. Repeatable.

        Args:
            timeout_s: Longest wait for the worker's running step, in seconds; None = no limit.

        Returns:
            Whether the worker has ended.
        """
        self._stop_inputs()
        worker, self.shared.worker = self.shared.worker, None
        ended = worker is None or worker.stop(timeout_s)
        self.shared.model_name = ""
        self._adapters.release()
        outputs, self.pipeline.outputs = self.pipeline.outputs, None
        if outputs is not None:
            outputs.destroy()
        return ended

    def destroy_node(self) -> None:
        """End the worker, then the node."""
        if "shared" in vars(self):  # else a parameter could not be declared, and rclpy cleans up
            self.release()
        super().destroy_node()

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _camera_input(self) -> tuple[type, str]:
        """The images' type of message and topic, before remapping."""
        compressed = self.shared.parameters.image_transport == "compressed"
        return (CompressedImage, "image/compressed") if compressed else (Image, "image")

    def _subscribe(self) -> None:
        kind, topic = self._camera_input()
        subscribe, group = self.inputs.subscribe, self._sensors_group
        camera = subscribe(kind, topic, self.pipeline.on_image, NEWEST_BEST_EFFORT, self._images_group)
        for source in self.shared.calibrator.sources:
            if source.message_type is not None:
                subscribe(source.message_type, source.topic, source.add, source.qos, group)
        subscribe(CameraInfo, "camera_info", self.shared.camera_info.add, SENSOR_DATA, group)
        if Detection2DArray is not None:
            subscribe(Detection2DArray, "detections", self.pipeline.on_detections, SENSOR_DATA, group)
        if LabelInfo is not None:
            subscribe(LabelInfo, "label_info", self.shared.detections.add_label_info, LATCHED, group)
        self.get_logger().info(f"active: images from {camera}")

    def _stop_inputs(self) -> None:
        shared = self.shared
        self._bond.stop()
        shared.active = False
        self.shared.update_stream()
        self.inputs.destroy()
        self.pipeline.arrivals.clear()
        shared.camera_info.clear()
        shared.camera_problem = ""
        shared.forget_images()
        shared.detections.clear()
        if self.pipeline.outputs is not None:
            self.pipeline.outputs.timing.pause()
        if shared.worker is not None:
            shared.worker.flush("the node was deactivated")

    # -- services and diagnostics ------------------------------------------------------------------------------------

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Pause or resume `object_depths`; queries are answered either way."""
        self.shared.enabled = bool(request.data)
        if self.pipeline.outputs is not None:
            self.pipeline.outputs.timing.pause()
        self.shared.update_stream()
        if not request.data:
            self.shared.forget_images()
        response.success = True
        response.message = f"object_depths is {'enabled' if request.data else 'paused'}; the node is {self.state}"
        return response

    def _on_diagnostics(self) -> None:
        outputs = self.pipeline.outputs
        endpoints = [*self.inputs.endpoints, *([] if outputs is None else outputs.endpoints)]
        problems = incompatible_endpoints(self, endpoints) if self.shared.active else []
        name = f"{self.get_fully_qualified_name().lstrip('/')}: proximity"
        arrivals = self._arrivals()
        hint, loss = self._image_hint(arrivals), self._image_loss(arrivals)
        array = DiagnosticArray(status=[self._diagnostics.status(name, problems, hint, loss, arrivals)])
        self._log_silence(hint, loss, arrivals)
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(array)

    def _arrivals(self) -> ArrivalCounts:
        """Which images have come of late; counted anew where numbers of several publishers would be mixed up."""
        counts = self.pipeline.arrivals.counts()
        if not (counts.anonymous and self._waits_for_images()):
            return counts
        if self.count_publishers(self.inputs.endpoints[0].topic) > 1:
            self.pipeline.arrivals.clear_numbers()
        return self.pipeline.arrivals.counts()

    def _log_silence(self, hint: str, loss: str, arrivals: ArrivalCounts) -> None:
        """Log now and then why no image may come, while none does, or that only some of those published come."""
        log, period_s = self.get_logger().warning, SILENCE_LOG_PERIOD_S
        if hint and math.isnan(arrivals.silent_s):
            log(f"no image has arrived{hint}", throttle_duration_sec=period_s, skip_first=True)
        elif hint:
            log(f"no image for {arrivals.silent_s:.0f} s{hint}", throttle_duration_sec=period_s)
        elif loss:
            log(loss, throttle_duration_sec=period_s)

    def _image_hint(self, arrivals: ArrivalCounts) -> str:
        """Why no image may come: where images are published, or what may keep out those that are; '' while one does."""
        if not self._waits_for_images() or arrivals.silent_s < SILENCE_S:
            return ""
        kinds = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
        _, name = self._camera_input()
        return silent_topic(self, self.inputs.endpoints[0].topic, name, kinds)

    def _image_loss(self, arrivals: ArrivalCounts) -> str:
        """That only some of the published images come, and what to do; '' = they do."""
        if not self._waits_for_images():
            return ""
        return arrivals.problem(self.inputs.endpoints[0].topic, loss_remedy())

    def _waits_for_images(self) -> bool:
        return self.shared.active and bool(self.inputs.endpoints) and self.shared.worker is not None

    # -- parameters --------------------------------------------------------------------------------------------------

    def _on_set_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        changes = [c for c in changes if c.name != "objects" or not self._objects.are_current(c.value)]
        allowed = bool(self.get_parameter(ALLOW_REMOTE).value)
        configured = self.shared.worker is not None or self.state == "configuring"
        reason = parameters.refusal(changes, configured, self._specs, self._was_configured, allowed)
        return SetParametersResult(successful=not reason, reason=reason)

    def _on_parameters_were_set(self, changes: Sequence[Parameter]) -> None:
        self.shared.parameters = parameters.Parameters.read(self, self._specs)
        for change in changes:
            if change.name == "objects":
                self._objects.adopt(change.value)
            elif change.name == "use_detections":
                self.shared.detections.clear()
        if self.shared.worker is not None:  # else they are checked, and applied, when it is configured
            self.shared.apply_parameters()
        self.shared.update_stream()

    def _set_names(self, names: list[str]) -> SetParametersResult:
        return self.set_parameters([Parameter("objects", Parameter.Type.STRING_ARRAY, names)])[0]


def run(node: ProximityNode) -> bool:
    """Spin a node until its context is shut down, which may have been before, and take it down.

    Returns:
        Whether the thread that owns the model has ended.
    """
    executor = None
    try:
        executor = HandoverExecutor(node.threads_needed, context=node.context)
        executor.add_node(node)
        spin(executor, node, lambda: False, SPIN_PERIOD_S)
    except Exception:
        if node.context.ok():
            raise
        # interrupted before it spins: without a context rclpy makes no executor
    finally:
        ended = node.release(timeout_s=SHUTDOWN_TIMEOUT_S)
        if executor is not None:
            executor.shutdown(timeout_sec=SHUTDOWN_TIMEOUT_S)
        node.destroy_node()
    return ended


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted.

    Args:
        args: The command line; None = the process's own.

    Returns:
        The exit code: 0, or 2 where its parameters cannot be used.
    """
    if said_at_start("proximity_node", ABOUT, args, NAMES, parameters.SPECS):
        return 0
    # rclpy ends its context on SIGINT and then calls the handler that was there before: not the one that raises
    # KeyboardInterrupt wherever the program happens to be
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    keep_one_heap()
    removed = shared_memory.remove_leftovers()
    if not init_ros("proximity_node", args):
        return CANNOT_START
    if interrupted.is_set():  # before rclpy had its handler, which would have ended the context
        rclpy.try_shutdown()
        return 0
    try:
        node = ProximityNode(arguments=sys.argv if args is None else args)
    except ParameterException as error:
        refuse("proximity_node", error)
        return 2
    except Exception:
        if rclpy.ok():
            raise
        return 0  # interrupted while starting
    shared_memory.log_state(node.get_logger(), removed)
    try:
        ended = run(node)
    finally:
        rclpy.try_shutdown()
    if not ended:  # the model is still loading or computing, and native code cannot be interrupted
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0
