"""As Nav2's lifecycle manager does: transitions by the services in order, and a bond while the node is active."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from tests.ros.conftest import wait_until


class Bond:
    """A stand-in for bondpy's."""

    made: list[Bond]

    def __init__(self, node: Any, topic: str, name: str) -> None:
        self.said: list[Any] = [(topic, name)]
        self.made.append(self)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.said.append((name, *arguments))


@pytest.fixture
def bonds(monkeypatch: pytest.MonkeyPatch) -> list[Bond]:
    module = types.ModuleType("bondpy.bondpy")
    module.Bond = Bond  # type: ignore[attr-defined]
    Bond.made = []
    monkeypatch.setitem(sys.modules, "bondpy", types.ModuleType("bondpy"))
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)
    return Bond.made


def manager(graph: Any) -> Any:
    """Takes the node through transitions as the manager does: change_state, then get_state."""
    change = graph.client.create_client(ChangeState, "proximity/change_state")
    state = graph.client.create_client(GetState, "proximity/get_state")

    def to(transition: int) -> str:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert graph.call(change, request).success
        return str(graph.call(state, GetState.Request()).current_state.label)

    return to


def test_it_is_brought_up_and_down_and_has_a_bond_while_it_is_active(graph, fake, bonds):
    node = graph.start(lambda *_: fake, autostart=False, bond_heartbeat_period=0.1)
    to = manager(graph)
    assert to(Transition.TRANSITION_CONFIGURE) == "inactive" and not bonds
    for times in (1, 2):
        assert to(Transition.TRANSITION_ACTIVATE) == "active" and len(bonds) == times
        assert bonds[-1].said == [("bond", "proximity"), ("set_heartbeat_period", 0.1), ("start",)]
        assert to(Transition.TRANSITION_DEACTIVATE) == "inactive" and bonds[-1].said[-1] == ("shutdown",)
    assert to(Transition.TRANSITION_CLEANUP) == "unconfigured" and len(bonds) == 2
    assert node.shared.worker is None


def test_without_bondpy_the_diagnostics_say_why_there_is_no_bond(graph, fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "bondpy", None)
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", None)
    graph.start(lambda *_: fake, bond_heartbeat_period=0.1)
    assert wait_until(lambda: "bondpy is not installed" in graph.diagnostic(state="active")["bond"])


def test_no_bond_is_made_that_nobody_wants(graph, fake, bonds):
    graph.start(lambda *_: fake)
    assert graph.diagnostic(state="active")["bond"].startswith("not wanted") and not bonds
