"""`proxqa ask --node`: a running node asked from the command line."""

from __future__ import annotations

import json

from proxqa_core.cli import main
from proxqa_ros import ask_node
from tests.ros.conftest import wait_until


def test_a_running_node_is_asked(graph, fake, capsys, monkeypatch):
    graph.start(lambda *_: fake)
    monkeypatch.setattr(ask_node, "TIMEOUT_S", 10.0)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(graph.context.get_domain_id()))
    camera = graph.camera()
    assert wait_until(lambda: camera.get_subscription_count() > 0)
    camera.publish(graph.image())
    assert wait_until(lambda: graph.depths)
    arguments = ["--objects", "chair,table", "--json", "-"]
    assert main(["ask", "--node", "Which is closer, the chair or the table?", *arguments]) == 0, capsys.readouterr().err
    answer = json.loads(capsys.readouterr().out)
    assert answer["closer"] and answer["node"] == "proximity" and len(answer["objects"]) == 2
    assert main(["ask", "Which is closer, the chair or the table?", *arguments, "--node-name", "/proximity"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(ask_node, "TIMEOUT_S", 0.0)
    monkeypatch.setattr(ask_node, "_askable", lambda _: ["/proximity"])
    # the second in the same namespace, where the service has the same name: the other node would answer
    for other in ("/front/proximity", "/eye"):
        assert main(["ask", "How far is the chair?", "--node-name", other]) == 1
        assert capsys.readouterr().err.rstrip().endswith(" There is: --node-name /proximity")


def test_no_node_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(ask_node, "TIMEOUT_S", 0.5)
    assert main(["ask", "How far is the chair?", "--node-name", "/nowhere/proximity"]) == 1
    assert "there is no node '/nowhere/proximity' that answers questions" in capsys.readouterr().err
    assert main(["ask", "How far is the chair?", "--node-name", "/no where/proximity"]) == 1
    assert "'/no where/proximity' has no name of ROS" in capsys.readouterr().err
    assert main(["ask", "How far is the chair?", "--node"]) == 1
    assert "there is no service '/proximity_query'" in capsys.readouterr().err
