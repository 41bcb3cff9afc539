#!/usr/bin/env bash
# Guess:     an action client may be made on a node that is being spun, as subscriptions and clients of services may:
#            the executor sees it when it is whole.
# Behaviour: it is handed to the node, and so to whoever spins that, before it has its lock. Where the executor
#            comes by in between, AttributeError ("no attribute '_lock'") ends the thread that spins: rarely, and
#            then nothing on that node is called any more. A client of a service is whole by then.
# Versions:  ros-rclpy 9.1.2 (Kilted), ros-test-msgs 2.3.0, ros-rmw-fastrtps-cpp 9.3.3, ros-fastdds 3.2.3
# Source:    https://github.com/ros2/rclpy/issues/1589 (Humble to Rolling; closed, mended after these versions)
# Matters:   a node that makes its action clients on demand stops hearing anything, once in thousands of times. Make
#            them before their node is added to an executor.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'ros-kilted-rclpy[fastrtps]==9.1.2' 'ros-rclpy==9.1.2' 'ros-test-msgs==2.3.0' \
    'ros-rmw-fastrtps-cpp==9.3.3' 'ros-fastdds==3.2.3'
cd "$tmp"
unset AMENT_PREFIX_PATH PYTHONPATH FASTDDS_DEFAULT_PROFILES_FILE _ROS_WHEELS_BOOTSTRAP_COMPLETE
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_LOG_DIR="$tmp/log"
export ROS_DOMAIN_ID=$((RANDOM % 100))
cat >whole.py <<'PY'
import rclpy
from rclpy.action import ActionClient
from rclpy.node import Node
from test_msgs.action import Fibonacci


class Watched(Node):
    """Notes what an action client has when it is handed over, which is when an executor may take it up."""

    def add_waitable(self, waitable):
        super().add_waitable(waitable)
        if isinstance(waitable, ActionClient):
            handed_over.append((waitable in list(self.waitables), sorted(vars(waitable))))


handed_over = []
rclpy.init()
node = Watched("asker")
client = ActionClient(node, Fibonacci, "fibonacci")
((is_there, had),) = handed_over
later = sorted(set(vars(client)) - set(had))
print(f"seen by executors: {is_there}; what it gets after that: {', '.join(later)}")
assert is_there and "_lock" in later and "_client_handle" in had
rclpy.shutdown()
PY
"$tmp/venv/bin/python" whole.py
