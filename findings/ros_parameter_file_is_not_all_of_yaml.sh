#!/usr/bin/env bash
# Guess:     a ROS 2 parameter file is YAML: [0, 0, 0.4] is a list of numbers, {door: 2.0} a table, null nothing.
# Behaviour: the list stops rclpy.init() itself, before any node could say which parameter is meant: all items must be
#            written alike, [0.0, 0.0, 0.4]. The table becomes a parameter `sizes.door`, which no node declared and
#            nobody mentions. null and ~ are the texts "null" and "~"; a key without a value stops init() as well.
# Versions:  ros-rclpy 9.1.2 (Kilted), ros-rmw-fastrtps-cpp 9.3.3, ros-fastdds 3.2.3
# Source:    rcl_yaml_param_parser, src/parse.c ("Sequence should be of same type"), as init() quotes it;
#            https://github.com/ros2/rclcpp/issues/979 (integers for doubles)
# Matters:   a camera's pose with one decimal among zeros ends every node of the process that the file is given to;
#            a table of known sizes has no effect, in silence. Refuse tables by name, and explain init()'s error.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'ros-kilted-rclpy[fastrtps]==9.1.2' 'ros-rclpy==9.1.2' 'ros-rmw-fastrtps-cpp==9.3.3' \
    'ros-fastdds==3.2.3'
cd "$tmp"
unset AMENT_PREFIX_PATH PYTHONPATH FASTDDS_DEFAULT_PROFILES_FILE _ROS_WHEELS_BOOTSTRAP_COMPLETE
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_LOG_DIR="$tmp/log"
export ROS_DOMAIN_ID=$((RANDOM % 100))
cat >read.py <<'PY'
from pathlib import Path

import rclpy
from rclpy.context import Context


def read(line):
    """What a node that accepts any parameter gets of this line of YAML; the error of init() where there is one."""
    Path("p.yaml").write_text(f"/**:\n  ros__parameters:\n    {line}\n")
    context = Context()
    try:
        rclpy.init(args=["--ros-args", "--params-file", "p.yaml"], context=context)
    except Exception as error:
        return " ".join(str(error).split())[:150]
    node = rclpy.create_node(
        "n", context=context, allow_undeclared_parameters=True, automatically_declare_parameters_from_overrides=True
    )
    names = [n for n in node.get_parameters_by_prefix("") if n.split(".")[0] in ("pose", "sizes", "adapter")]
    found = {n: node.get_parameter(n).value for n in names}
    node.destroy_node()
    rclpy.shutdown(context=context)
    return found


lines = ("pose: [0, 0, 0.4]", "pose: [0.0, 0.0, 0.4]", "sizes: {door: 2.0}", "adapter: null", "adapter: ~", "adapter:")
seen = {line: read(line) for line in lines}
for line, found in seen.items():
    print(f"{line:24} {found}")
assert "Sequence should be of same type" in seen["pose: [0, 0, 0.4]"]
assert list(seen["pose: [0.0, 0.0, 0.4]"]["pose"]) == [0.0, 0.0, 0.4]
assert seen["sizes: {door: 2.0}"] == {"sizes.door": 2.0}
assert (seen["adapter: null"], seen["adapter: ~"]) == ({"adapter": "null"}, {"adapter": "~"})
assert "No value at line" in seen["adapter:"]
PY
"$tmp/venv/bin/python" read.py 2>/dev/null
