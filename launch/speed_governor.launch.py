"""Start the speed governor: `ros2 launch proxqa_ros speed_governor.launch.py cmd_vel_in:=/cmd_vel_nav`.

`ros2 launch proxqa_ros speed_governor.launch.py --show-args` lists the arguments.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

TOPICS = {
    "object_depths": "Topic of the proximity node's depths.",
    "cmd_vel_in": "Topic of the commands to limit.",
    "cmd_vel": "Topic of the limited commands.",
}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    params = Path(get_package_share_directory("proxqa_ros")) / "config" / "speed_governor.yaml"
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file", default_value=str(params), description="Parameters, see config/speed_governor.yaml."
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
            *(DeclareLaunchArgument(name, default_value=name, description=text) for name, text in TOPICS.items()),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock."),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
            LifecycleNode(
                package="proxqa_ros",
                executable="speed_governor",
                name="speed_governor",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("params_file"), {"use_sim_time": use_sim_time}],
                remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
                arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
                output="screen",
                emulate_tty=True,
            ),
        ]
    )
