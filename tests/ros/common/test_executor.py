"""The executor leaves the interpreter to those who compute."""

from __future__ import annotations

import threading
import time

import rclpy
from rclpy.context import Context

from proxqa_ros.common.executor import HandoverExecutor


def test_a_callback_is_handed_over_once_however_late_it_begins():
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("ticking", context=context)
    executor = HandoverExecutor(4, context=context)
    executor.add_node(node)
    ticks, submitted, stopping = [], [], threading.Event()
    pool = executor._executor
    submit = pool.submit
    pool.submit = lambda fn, *args: (submitted.append(fn), submit(fn, *args))[1]
    node.create_timer(0.02, lambda: ticks.append(time.monotonic()))

    def compute():
        while not stopping.is_set():  # holds the interpreter's lock as long as it is let
            sum(range(1000))

    busy = [threading.Thread(target=compute, daemon=True) for _ in range(2)]
    try:
        for thread in busy:
            thread.start()
        end = time.monotonic() + 30
        while len(ticks) < 50 and time.monotonic() < end:
            executor.spin_once(0.1)
    finally:
        stopping.set()
        executor.shutdown(timeout_sec=5)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert len(ticks) >= 50
    assert len(submitted) <= 1.3 * len(ticks) + 3  # rclpy's own: twice as many here, thousands where several wait


def test_errors_still_come_out():
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("failing", context=context)
    executor = HandoverExecutor(2, context=context)
    executor.add_node(node)

    def fail():
        raise LookupError("of a callback")

    node.create_timer(0.01, fail)
    said = ""
    try:
        end = time.monotonic() + 10
        while not said and time.monotonic() < end:
            try:
                executor.spin_once(0.1)
            except LookupError as error:
                said = str(error)
    finally:
        executor.shutdown(timeout_sec=5)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert said == "of a callback"
