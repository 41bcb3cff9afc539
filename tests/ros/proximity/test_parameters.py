"""The YAML is the tutorial: it must name exactly the parameters that are declared, with their defaults."""

from __future__ import annotations

from proxqa_ros.distance.registry import SOURCES
from proxqa_ros.proximity.node import ProximityNode
from proxqa_ros.proximity.parameters import SPECS, Parameters
from tests.ros.conftest import check_yaml, in_yaml


def test_yaml_and_declarations_agree(root):
    check_yaml(root, "proximity", SPECS)
    of_sources = [name for source in SOURCES for name in source.parameters]
    fields = [[f] if f != "sources" else of_sources for f in Parameters.__dataclass_fields__]
    assert list(SPECS) == [name for names in fields for name in names]


def test_yaml_and_the_node_agree(root, graph, fake):
    node = ProximityNode(engine_loader=lambda *_: fake, context=graph.context)
    graph.add(node)
    foreign = {"use_sim_time", "start_type_description_service"}
    ours = {name for name in node._parameters if not name.startswith("qos_overrides.")}
    assert ours - foreign == set(in_yaml(root, "proximity"))
    for name, value in in_yaml(root, "proximity").items():
        assert node.get_parameter(name).value == value
        assert node.describe_parameter(name).description == SPECS[name].description


def test_a_parameter_file_is_read(root, graph, fake, tmp_path):
    file = tmp_path / "my.yaml"
    text = (root / "config/proximity.yaml").read_text()
    file.write_text(
        text.replace('objects: ["person", "chair", "table", "door"]', 'objects: [""]').replace("rate: 0.0", "rate: 7.5")
    )
    node = graph.start(lambda *_: fake, cli=("--params-file", str(file)))
    assert node.get_parameter("rate").value == 7.5
    assert node.shared.objects == ()
