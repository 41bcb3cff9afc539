"""Start one proximity node per camera: `ros2 launch proxqa_ros multi_camera.launch.py cameras:="front,rear"`.

Each node is in the namespace of its camera: /front/proximity reads /front/image_raw, publishes /front/object_depths and
answers /front/proximity_query. Topics are patterns: `image:="/{camera}/color/image_raw"`. One params_file serves all;
what differs is in it under the node's full name (`/front/proximity:` instead of `/**:`). Every node loads a model
of its own: mind the memory. `--show-args` lists the arguments.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from proxqa_ros.common.launch_arguments import camera_names, camera_topic, joined

SHARE = Path(get_package_share_directory("proxqa_ros"))
TOPICS = {
    "image": ("image_raw", "Topic of a camera's images."),
    "depth": ("depth/image_raw", "Topic of depth images aligned with them."),
    "range": ("range", "Topic of a range sensor."),
    "scan": ("scan", "Topic of a laser scanner."),
    "camera_info": ("camera_info", "Topic of its CameraInfo."),
    "detections": ("detections", "Topic of detections in its images."),
    "label_info": ("label_info", "Topic of what the detector's numbers mean."),
}
"""Patterns, and what they mean."""
SHARED = {
    "params_file": (str(SHARE / "config" / "proximity.yaml"), "Parameters, see config/proximity.yaml."),
    "model": ("", "Overrides the file's; '' = the file's."),
    "adapter": ("", "Overrides the file's; '' = the file's."),
    "device": ("", "auto, cpu, cuda or cuda:N; overrides the file's; '' = the file's."),
    "autostart": ("", "true or false; overrides the file's; '' = the file's."),
    "use_sim_time": ("", "true or false: take the time from /clock; '' = as the file says, else false."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}
"""Arguments that every node gets as they are."""


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """A node in a namespace for every camera."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("cameras", "namespace", *TOPICS, *SHARED)}
    cameras = camera_names(given["cameras"])
    groups = []
    for camera in cameras:
        arguments = {name: given[name] for name in SHARED}
        arguments |= {name: camera_topic(name, given[name], camera, len(cameras) > 1) for name in TOPICS}
        arguments |= {"namespace": joined(given["namespace"], camera), "rviz": "false"}
        source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "proximity.launch.py"))
        include = IncludeLaunchDescription(source, launch_arguments=arguments.items())
        groups.append(GroupAction([include], scoped=True))  # one camera's arguments do not reach the next one's
    return groups


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    patterns = {
        name: (default, f"{text} '{{camera}}' in it = the name; without leading slash: in the camera's namespace.")
        for name, (default, text) in TOPICS.items()
    }
    return LaunchDescription(
        [
            DeclareLaunchArgument("cameras", description="Names of the cameras, comma-separated: 'front,rear'."),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace around those of the cameras."),
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in {**patterns, **SHARED}.items()
            ),
            OpaqueFunction(function=start),
        ]
    )
