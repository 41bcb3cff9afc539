"""A camera without a driver: publishes what OpenCV reads, from a webcam or a video file, for the proximity node.

    python3 examples/webcam.py --ros-args -p source:=0
    python3 examples/webcam.py --ros-args -p source:=drive.mp4 -p rate:=10.0 -r image:=/camera/image_raw

A video file starts anew at its end. A camera that fails is opened again every second, which is said once.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import cv2
import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

REOPEN_S = 1.0
"""Time between two tries to open a camera that failed, in seconds."""
MIN_RATE_HZ, MAX_RATE_HZ = 0.1, 120.0


class Webcam(Node):
    """Publishes `image` (sensor_msgs/Image, bgr8).

    Raises:
        ValueError: A parameter cannot be used.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("webcam", **kwargs)
        self.source: str = str(self.declare_parameter("source", "0", dynamic()).value)
        self.frame_id: str = self.declare_parameter("frame_id", "camera").value
        rate_hz = float(self.declare_parameter("rate", 10.0, dynamic()).value)
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"rate is {rate_hz}; expected {MIN_RATE_HZ} to {MAX_RATE_HZ} images a second")
        self.publisher = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self.is_file = not (self.source.isdecimal() or self.source.startswith("/dev/"))
        self.capture = self.opened()
        if not self.capture.isOpened():
            what = "video file" if self.is_file else "camera"
            raise ValueError(f"source {self.source!r} is no {what} that can be read; expected 0, /dev/video0 or a file")
        self.failed_s: float | None = None
        self.create_timer(1.0 / rate_hz, self.on_time)

    def opened(self) -> cv2.VideoCapture:
        """The camera or the file from its beginning."""
        return cv2.VideoCapture(int(self.source) if self.source.isdecimal() else self.source)

    def on_time(self) -> None:
        """Publish the next image."""
        image = self.next_image()
        if image is None:
            return
        height, width = image.shape[:2]
        message = Image(height=height, width=width, encoding="bgr8", step=3 * width)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self.frame_id
        message.data = np.ascontiguousarray(image).tobytes()
        self.publisher.publish(message)

    def next_image(self) -> NDArray[np.uint8] | None:
        """The next image, None where the camera gives none."""
        read, image = self.capture.read()
        if read:
            if self.failed_s is not None:
                self.get_logger().info(f"camera {self.source} gives images again")
                self.failed_s = None
            return np.asarray(image, np.uint8)
        now_s = time.monotonic()
        if self.is_file:
            self.capture = self.opened()
        elif self.failed_s is None or now_s - self.failed_s >= REOPEN_S:
            if self.failed_s is None:
                self.get_logger().error(f"camera {self.source} gives no image; trying again every {REOPEN_S:g} s")
            self.failed_s, self.capture = now_s, self.opened()
        return None


def dynamic() -> Any:
    """A parameter that may be given as text or as a number: `source:=0` and `source:=/dev/video0`."""
    from rcl_interfaces.msg import ParameterDescriptor

    return ParameterDescriptor(dynamic_typing=True)


def main() -> int:
    """Run until it is interrupted; the exit code is 2 where a parameter cannot be used."""
    rclpy.init()
    try:
        rclpy.spin(Webcam())
    except ValueError as error:
        print(f"webcam: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():  # else: Ctrl-C while an image was being published
            raise
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
