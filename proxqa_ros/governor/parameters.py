"""The speed governor's parameters: declared once, read as the core's GovernorConfig, checked before they change.

Promises: `config/speed_governor.yaml` names every parameter declared here with its default (a test compares the two),
and a change is either applied or refused with the reason. Knows nothing of topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from proxqa_core.errors import BadObjectError
from proxqa_core.robot.speed_limits import BadGovernorConfigError, GovernorConfig
from proxqa_core.types import ObjectQuery
from proxqa_ros.common.parameters import BadParameterError, Spec


def _live(default: Any, description: str, low: float | None = None, high: float | None = None) -> Spec:
    return Spec(default, description, low, high, live=True)


SPECS: dict[str, Spec] = {
    "objects": _live(["person"], "Names of the objects to slow down for; [''] = every object that is published."),
    "min_score": _live(0.5, "Objects from this score on are there.", 0.0, 1.0),
    "possible_score": _live(0.2, "Objects from this score on may be there, and slow down.", 0.0, 1.0),
    "slow_distance": _live(2.0, "Slow down for an object this near, metres.", 0.0, 1000.0),
    "stop_distance": _live(0.8, "Stop for an object this near, metres.", 0.0, 1000.0),
    "distance_hysteresis": _live(0.2, "So much farther before it is faster again, metres.", 0.0, 1000.0),
    "use_relative_depth": _live(True, "Judge objects without a distance by relative depth, which is not metres."),
    "require_image_health": _live(True, "Take the fail-safe limit where the image is not known to be a good one."),
    "slow_depth": _live(0.4, "Slow down for an object of this relative depth (not metres).", 0.0, 1.0),
    "stop_depth": _live(0.15, "Stop for an object of this relative depth (not metres).", 0.0, 1.0),
    "depth_hysteresis": _live(0.05, "So much farther before it is faster again, relative depth.", 0.0, 1.0),
    "sigmas": _live(1.0, "Standard deviations by which objects are taken to be nearer than read.", 0.0, 10.0),
    "max_speed": _live(0.5, "Highest linear speed where the way is clear, m/s.", 0.0, 100.0),
    "slow_speed": _live(0.2, "Highest linear speed near an object, m/s.", 0.0, 100.0),
    "fail_safe_speed": _live(0.0, "Highest linear speed when it is not known where objects are, m/s.", 0.0, 100.0),
    "max_turn_rate": _live(1.0, "Highest angular speed where the way is clear, rad/s.", 0.0, 100.0),
    "slow_turn_rate": _live(0.5, "Highest angular speed near an object, rad/s.", 0.0, 100.0),
    "stop_turn_rate": _live(0.3, "Highest angular speed while stopped, rad/s.", 0.0, 100.0),
    "fail_safe_turn_rate": _live(0.0, "Highest angular speed when not known where objects are, rad/s.", 0.0, 100.0),
    "limit_reverse": _live(True, "Limit straight backward motion in the slow zone too."),
    "max_depths_age": _live(1.0, "Oldest object_depths to use, seconds.", 0.01, 60.0),
    "command_timeout": _live(0.5, "Seconds after which a command no longer holds.", 0.01, 60.0),
    "depths_deadline": Spec(
        0.0, "QoS deadline asked of publishers of object_depths, seconds; 0 = none.", 0.0, 60.0, read_only=True
    ),
    "depths_lease": Spec(0.0, "QoS liveliness lease asked of them, seconds; 0 = none.", 0.0, 60.0, read_only=True),
    "bond_heartbeat_period": Spec(0.0, "Seconds between heartbeats of a bond; 0 = no bond.", 0.0, 10.0, read_only=True),
    "stamped": Spec(False, "cmd_vel_in and cmd_vel are TwistStamped instead of Twist.", read_only=True),
    "autostart": Spec(True, "Configure and activate on start.", read_only=True),
}
CONFIG_NAMES = tuple(field.name for field in fields(GovernorConfig))
"""The parameters that GovernorConfig is made of."""


def read(node: Node, changes: Sequence[Parameter] = ()) -> GovernorConfig:
    """The configuration that the parameters make.

    Args:
        node: The node, with all of SPECS declared.
        changes: Parameters that are about to be set, which go before those of the node.

    Raises:
        BadParameterError: They cannot be used, or contradict each other; one line.
    """
    values = {name: node.get_parameter(name).value for name in CONFIG_NAMES}
    values |= {change.name: change.value for change in changes if change.name in CONFIG_NAMES}
    names = list(values["objects"] or ())
    try:
        values["objects"] = () if names == [""] else tuple(ObjectQuery(name).name for name in names)
        return GovernorConfig(**values)
    except BadObjectError as error:
        raise BadParameterError(f"parameter 'objects': {error}") from error
    except BadGovernorConfigError as error:
        raise BadParameterError(f"parameter {error}") from error
