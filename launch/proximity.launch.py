"""Start the proximity node: `ros2 launch proxqa_ros proximity.launch.py image:=/camera/image_raw`.

`ros2 launch proxqa_ros proximity.launch.py --show-args` lists the arguments. From a launch file of yours:

    IncludeLaunchDescription(
        PathJoinSubstitution([FindPackageShare("proxqa_ros"), "launch", "proximity.launch.py"]),
        launch_arguments={"namespace": "front", "image": "/front/image_raw", "autostart": "false"}.items(),
    )

A namespace pushed around it (PushRosNamespace) and parameters set around it (SetParameter) apply to the node too.
"""

import os
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from proxqa_ros.common.launch_arguments import yes_or_no

CONFIG = Path(get_package_share_directory("proxqa_ros")) / "config"
TEXTS, SWITCHES = ("model", "adapter", "device"), ("autostart", "use_sim_time")
"""Arguments that override the parameters of the file, unless they are empty."""
INPUTS = ("depth", "range", "scan", "camera_info", "detections", "label_info")
"""Topics that are subscribed to besides the image's."""


def overrides(context: LaunchContext, names: tuple[str, ...] = TEXTS + SWITCHES) -> dict[str, object]:
    """The parameters given as launch arguments; they override those of the file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    return {name: yes_or_no(name, value) if name in SWITCHES else value for name, value in given.items() if value}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, with the arguments that were given."""
    image, depth = (LaunchConfiguration(name).perform(context) for name in ("image", "depth"))
    node = LifecycleNode(
        package="proxqa_ros",
        executable="proximity_node",
        name="proximity",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file").perform(context), overrides(context)],
        remappings=[
            ("image", image),
            ("image/compressed", f"{image}/compressed"),
            ("depth/compressed", f"{depth}/compressed"),
            ("depth/compressedDepth", f"{depth}/compressedDepth"),
            *((topic, LaunchConfiguration(topic)) for topic in INPUTS),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        emulate_tty=True,
    )
    wanted = yes_or_no("rviz", LaunchConfiguration("rviz").perform(context))
    return [node, rviz(context)] if wanted else [node]


def rviz(context: LaunchContext) -> LaunchDescriptionEntity:
    """RViz in the node's namespace, where the topics of its configuration (all relative) are; or why not."""
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        distro = os.environ.get("ROS_DISTRO", "<distro>")
        return LogInfo(msg=f"rviz:=true, but rviz2 is not installed (apt install ros-{distro}-rviz2): going on without")
    frame = LaunchConfiguration("rviz_frame").perform(context)
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        namespace=LaunchConfiguration("namespace"),
        parameters=[overrides(context, ("use_sim_time",))],
        arguments=["-d", LaunchConfiguration("rviz_config"), *(["-f", frame] if frame else [])],
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    # the user's own profile, where there is one, stays
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE", str(CONFIG / "fastdds_shm.xml"))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=str(CONFIG / "proximity.yaml"),
                description="Parameters, see config/proximity.yaml.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
            DeclareLaunchArgument("image", default_value="image", description="Topic of the camera's images."),
            DeclareLaunchArgument(
                "depth", default_value="depth", description="Topic of depth images aligned with them."
            ),
            DeclareLaunchArgument("range", default_value="range", description="Topic of a range sensor."),
            DeclareLaunchArgument("scan", default_value="scan", description="Topic of a laser scanner."),
            DeclareLaunchArgument("camera_info", default_value="camera_info", description="Topic of its CameraInfo."),
            DeclareLaunchArgument(
                "detections", default_value="detections", description="Topic of detections in its images."
            ),
            DeclareLaunchArgument(
                "label_info", default_value="label_info", description="Topic of what the detector's numbers mean."
            ),
            DeclareLaunchArgument("model", default_value="", description="Overrides the file's; '' = the file's."),
            DeclareLaunchArgument("adapter", default_value="", description="Overrides the file's; '' = the file's."),
            DeclareLaunchArgument(
                "device",
                default_value="",
                description="auto, cpu, cuda or cuda:N; overrides the file's; '' = the file's.",
            ),
            DeclareLaunchArgument(
                "autostart", default_value="", description="true or false; overrides the file's; '' = the file's."
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="",
                description="true or false: take the time from /clock; '' = as the file says, else false.",
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
            DeclareLaunchArgument("rviz", default_value="false", description="Start RViz too, where it is installed."),
            DeclareLaunchArgument(
                "rviz_config", default_value=str(CONFIG / "proximity.rviz"), description="What RViz shows."
            ),
            DeclareLaunchArgument(
                "rviz_frame",
                default_value="",
                description="RViz's fixed frame: the images' frame_id, or any that TF leads to; '' = the config's.",
            ),
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            OpaqueFunction(function=start),
        ]
    )
