"""A behaviour that asks before it moves: drive towards the goal only while the goal is closer than the obstacle.

    python3 examples/ask_before_moving.py --ros-args -p goal:=table -p obstacle:=person

It publishes on `cmd_vel_in`, where the node `speed_governor` listens (config/speed_governor.yaml); remap it to
`cmd_vel` where there is none. No answer, an unsure one and an error all mean: stand still, and log why.
"""

from __future__ import annotations

from typing import Any

import rclpy
from geometry_msgs.msg import Twist
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from proxqa_ros.client import ProximityClient, ProximityError

MIN_PROBABILITY = 0.75
"""Least probability of an answer that is acted upon."""
SPEED_M_PER_S = 0.2
PERIOD_S = 0.1
"""Time between two commands."""


class AskBeforeMoving(Node):
    """Asks again as soon as the last answer has come; the command is renewed at a steady rate meanwhile."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("ask_before_moving", **kwargs)
        self.goal: str = self.declare_parameter("goal", "table").value
        self.obstacle: str = self.declare_parameter("obstacle", "person").value
        self.client = ProximityClient(self)
        self.commands = self.create_publisher(Twist, "cmd_vel_in", 1)
        self.may_move: bool | None = None  # None = not decided yet: stand still
        self.asking = False
        self.create_timer(PERIOD_S, self.on_ask)  # type: ignore[arg-type] # a coroutine: rclpy awaits it
        self.create_timer(PERIOD_S, self.on_command)

    async def on_ask(self) -> None:
        """Awaiting lets the executor go on, so this works in any executor; the synchronous `ask` would not."""
        if self.asking:
            return
        self.asking = True
        question = f"Which is closer, the {self.goal} or the {self.obstacle}?"
        try:
            response: Any = await self.client.ask_async(
                question, [self.goal, self.obstacle], max_image_age=1.0, timeout=2.0
            )
        except ProximityError as error:  # its kinds are classes: NoImageError, BusyError, QueryTimeoutError …
            self.decide(False, f"{type(error).__name__}: {error.message}")
        else:
            # `closer` is empty unless both were seen
            self.decide(response.closer == self.goal and response.probability >= MIN_PROBABILITY, response.answer)
        finally:
            self.asking = False

    def decide(self, may_move: bool, why: str) -> None:
        """Take a decision, and log it where it is the first or another one."""
        if may_move != self.may_move:
            self.get_logger().info(f"{'moving' if may_move else 'standing'}: {why}")
        self.may_move = may_move

    def on_command(self) -> None:
        """Publish the command that holds now."""
        command = Twist()
        command.linear.x = SPEED_M_PER_S if self.may_move else 0.0
        self.commands.publish(command)


def main() -> None:
    """Run until it is interrupted."""
    rclpy.init()
    node = AskBeforeMoving()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():  # else: Ctrl-C while a command was being published
            raise
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
