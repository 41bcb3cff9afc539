#!/usr/bin/env bash
# Guess:     a subscription with a 200 ms deadline reports a missed deadline when the camera sends nothing for 200
#            ms.
# Behaviour: not before the first message: with no publisher, and with a matched publisher that stays silent, no
#            event ever comes. From the first message on misses are reported, and go on after the publisher is gone.
# Versions:  ros-rclpy 9.1.2 (Kilted), ros-rmw-fastrtps-cpp 9.3.3, ros-fastdds 3.2.3, ros-std-msgs 5.5.1
# Source:    https://github.com/ros2/rmw_fastrtps/issues/384 (a deadline belongs to an instance, and there is none
#            before the first sample); OMG DDS 1.4, section 2.2.3.7 DEADLINE
# Matters:   a watchdog made of the deadline alone calls a camera healthy that never came up. It needs a timer of
#            its own from the start of the node until the first image.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'ros-kilted-rclpy[fastrtps]==9.1.2' 'ros-rclpy==9.1.2' 'ros-std-msgs==5.5.1' \
    'ros-rmw-fastrtps-cpp==9.3.3' 'ros-fastdds==3.2.3'
cd "$tmp"
unset AMENT_PREFIX_PATH PYTHONPATH FASTDDS_DEFAULT_PROFILES_FILE _ROS_WHEELS_BOOTSTRAP_COMPLETE
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_LOG_DIR="$tmp/log"
export ROS_DOMAIN_ID=$((RANDOM % 100))
cat >watch.py <<'PY'
import time

import rclpy
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile
from std_msgs.msg import String

PHASE_S = 2.0
received, missed = [], []
rclpy.init()
node = rclpy.create_node("watchdog")
qos = QoSProfile(depth=5, deadline=Duration(seconds=0.2))
events = SubscriptionEventCallbacks(deadline=missed.append)
node.create_subscription(String, "camera", received.append, qos, event_callbacks=events)


def misses(phase):
    missed.clear()
    end = time.monotonic() + PHASE_S
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)
    print(f"{phase}: {len(received)} messages so far, {len(missed)} missed deadlines in {PHASE_S} s")
    return len(missed)


assert misses("no publisher") == 0
publisher = node.create_publisher(String, "camera", qos)
assert misses("publisher silent") == 0 and publisher.get_subscription_count() == 1
publisher.publish(String(data="an image"))
assert misses("one message, then silence") > 0 and len(received) == 1
node.destroy_publisher(publisher)
assert misses("publisher gone") > 0
PY
"$tmp/venv/bin/python" watch.py
