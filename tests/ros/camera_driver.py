"""A camera driver as a process of its own: `camera_driver.py TOPIC HZ SECONDS`; 1080p, best effort."""

from __future__ import annotations

import sys
import time

import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

WIDTH, HEIGHT = 1920, 1080


def main(topic: str, hz: float, seconds: float) -> None:
    rclpy.init()
    node = rclpy.create_node("camera_driver")
    publisher = node.create_publisher(Image, topic, qos_profile_sensor_data)
    message = Image(width=WIDTH, height=HEIGHT, step=3 * WIDTH, encoding="rgb8")
    message.header.frame_id = "camera"
    message.data = b"\xc8" * (3 * WIDTH * HEIGHT)
    end = time.monotonic() + 30
    while publisher.get_subscription_count() == 0 and time.monotonic() < end:
        time.sleep(0.02)
    started = time.monotonic()
    for n in range(round(hz * seconds)):
        time.sleep(max(0.0, started + n / hz - time.monotonic()))
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
    print(n + 1, f"{time.monotonic() - started:.2f}", flush=True)
    rclpy.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
