"""Start the proximity node: `ros2 launch proxqa_ros proximity.launch.py image:=/camera/image_raw`.

`ros2 launch proxqa_ros proximity.launch.py --show-args` lists the arguments.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")


def yes_or_no(name: str, value: str) -> bool:
    """The truth of a launch argument; ValueError on anything that is neither."""
    if value.lower() not in TRUE + FALSE:
        raise ValueError(f"launch argument {name} is {value!r}; expected true or false")
    return value.lower() in TRUE


def overrides(context: LaunchContext) -> dict[str, object]:
    """The parameters given on the command line; they go before those of the file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("model", "adapter", "autostart")}
    found: dict[str, object] = {name: given[name] for name in ("model", "adapter") if given[name]}
    if given["autostart"]:
        found["autostart"] = yes_or_no("autostart", given["autostart"])
    found["use_sim_time"] = yes_or_no("use_sim_time", LaunchConfiguration("use_sim_time").perform(context))
    return found


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    image = LaunchConfiguration("image").perform(context)
    return [
        LifecycleNode(
            package="proxqa_ros",
            executable="proximity_node",
            name="proximity",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file").perform(context), overrides(context)],
            remappings=[
                ("image", image),
                ("image/compressed", f"{image}/compressed"),
                *(
                    (topic, LaunchConfiguration(topic))
                    for topic in ("depth", "range", "scan", "camera_info", "detections")
                ),
            ],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    config = Path(get_package_share_directory("proxqa_ros")) / "config"
    # the user's own profile, where there is one, stays
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE", str(config / "fastdds_shm.xml"))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=str(config / "proximity.yaml"),
                description="Parameters, see config/proximity.yaml.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
            DeclareLaunchArgument("image", default_value="image", description="Topic of the camera's images."),
            DeclareLaunchArgument(
                "depth", default_value="depth", description="Topic of depth images aligned with them."
            ),
            DeclareLaunchArgument("range", default_value="range", description="Topic of a range sensor beside it."),
            DeclareLaunchArgument("scan", default_value="scan", description="Topic of a laser scanner beside it."),
            DeclareLaunchArgument("camera_info", default_value="camera_info", description="Topic of its CameraInfo."),
            DeclareLaunchArgument(
                "detections", default_value="detections", description="Topic of detections in its images."
            ),
            DeclareLaunchArgument("model", default_value="", description="Goes before the file's; '' = the file's."),
            DeclareLaunchArgument("adapter", default_value="", description="Goes before the file's; '' = the file's."),
            DeclareLaunchArgument(
                "autostart", default_value="", description="true or false, goes before the file's; '' = the file's."
            ),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock."),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            OpaqueFunction(function=start),
        ]
    )
