"""Evaluate the proximity node on a bag: `ros2 launch proxqa_ros replay_evaluation.launch.py bag:=/path/to/bag`.

Starts the proximity node with the bag's clock and `replay_evaluation` beside it, and ends with it. `ros2 launch
proxqa_ros replay_evaluation.launch.py --show-args` lists the arguments.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, SetEnvironmentVariable
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from proxqa_core.rosbags.bag import Bag

GIVEN = {
    "json": ("", "File for the report as JSON; '' = none."),
    "html": ("", "File for the report as one HTML page; '' = none."),
    "image_topic": ("", "Topic of the images in the bag; '' = the only one."),
    "truth_topic": ("", "Topic of true depths in the bag; '' = the one named ground_truth, if any."),
    "depth_topic": ("", "Topic of aligned depth images to judge by instead; '' = the only one, without labels."),
    "play_depth_topic": ("", "Topic of depth images to play to the node, which calibrates metres; '' = none."),
    "rate": ("1.0", "So many times faster than recorded."),
    "loops": ("1", "So often is the bag played."),
    "max_seconds": ("0.0", "Play only the bag's first so many seconds; 0 = all of it."),
}
"""Parameters of replay_evaluation that are arguments too: (default, description). They go before those of the file."""


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Both nodes, as the bag needs them."""
    value = {
        name: LaunchConfiguration(name).perform(context) for name in ("bag", "model", "adapter", "objects", *GIVEN)
    }
    with Bag(value["bag"], asked_by="image_topic:=TOPIC") as bag:  # raises one line on what is wrong with it
        transport = "compressed" if bag.image_topic(value["image_topic"]).compressed else "raw"
        played = value["play_depth_topic"]
        depth = {"depth_transport": bag.depth_transport(bag.depth_topic(played))} if played else {}
    node = {"use_sim_time": True, "image_transport": transport, "autostart": True, **depth}
    node |= {name: value[name] for name in ("model", "adapter") if value[name]}
    replay = {name: value[name] for name in GIVEN} | {"bag": value["bag"], "use_sim_time": False}
    replay |= {"rate": float(value["rate"]), "loops": int(value["loops"]), "max_seconds": float(value["max_seconds"])}
    if names := [name.strip() for name in value["objects"].split(",") if name.strip()]:
        replay["objects"] = names
    arguments = ["--ros-args", "--log-level", LaunchConfiguration("log_level")]
    common = {"package": "proxqa_ros", "namespace": LaunchConfiguration("namespace"), "output": "screen"}
    return [
        LifecycleNode(
            **common,
            executable="proximity_node",
            name="proximity",
            parameters=[LaunchConfiguration("node_params_file").perform(context), node],
            arguments=arguments,
        ),
        Node(
            **common,
            executable="replay_evaluation",
            name="replay_evaluation",
            parameters=[LaunchConfiguration("params_file").perform(context), replay],
            arguments=arguments,
            on_exit=[EmitEvent(event=Shutdown(reason="the evaluation has ended"))],
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    config = Path(get_package_share_directory("proxqa_ros")) / "config"
    # the user's own profile, where there is one, stays
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE", str(config / "fastdds_shm.xml"))
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="Folder of the rosbag2 (sqlite3 or mcap)."),
            *(DeclareLaunchArgument(name, default_value=of[0], description=of[1]) for name, of in GIVEN.items()),
            DeclareLaunchArgument("objects", default_value="", description="Names, comma-separated; '' = the truth's."),
            DeclareLaunchArgument(
                "params_file",
                default_value=str(config / "replay_evaluation.yaml"),
                description="Parameters, see config/replay_evaluation.yaml.",
            ),
            DeclareLaunchArgument(
                "node_params_file",
                default_value=str(config / "proximity.yaml"),
                description="The proximity node's parameters, see config/proximity.yaml.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes and topics."),
            DeclareLaunchArgument("model", default_value="", description="Goes before the file's; '' = the file's."),
            DeclareLaunchArgument("adapter", default_value="", description="Goes before the file's; '' = the file's."),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            OpaqueFunction(function=start),
        ]
    )
