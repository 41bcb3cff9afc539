"""The YAML is the tutorial: it must name exactly the parameters that are declared, with their defaults."""

from __future__ import annotations

import re

import yaml

from proxqa_ros.parameters import SPECS, Parameters
from proxqa_ros.proximity_node import ProximityNode


def in_yaml(root):
    return yaml.safe_load((root / "config/proximity.yaml").read_text())["/**"]["ros__parameters"]


def test_yaml_and_declarations_agree(root):
    values = in_yaml(root)
    assert list(values) == list(SPECS) == list(Parameters.__dataclass_fields__)
    for name, spec in SPECS.items():
        assert values[name] == spec.default and type(values[name]) is type(spec.default), name


def test_yaml_and_the_node_agree(root, graph, fake):
    node = ProximityNode(engine_loader=lambda *_: fake, context=graph.context)
    graph.add(node)
    foreign = {"use_sim_time", "start_type_description_service"}
    ours = {name for name in node._parameters if not name.startswith("qos_overrides.")}
    assert ours - foreign == set(in_yaml(root))
    for name, value in in_yaml(root).items():
        assert node.get_parameter(name).value == value
        assert node.describe_parameter(name).description == SPECS[name].description


def test_every_parameter_has_a_comment_with_its_range_and_when_it_applies(root):
    text = (root / "config/proximity.yaml").read_text()
    for name, spec in SPECS.items():
        comment = re.search(rf"((?:    #.*\n)+)    {name}:", text)
        assert comment, f"{name} has no comment"
        words = " ".join(comment.group(1).replace("#", " ").split())
        when = "applies" if spec.live else "read at start only" if spec.read_only else "read at configure"
        assert words.endswith(f"Run time: {when}."), name
        if spec.high is not None:
            assert f"{spec.low:g} to {spec.high:g}" in words, f"{name}: expected its range in the comment"


def test_a_parameter_file_is_read(root, graph, fake, tmp_path):
    file = tmp_path / "my.yaml"
    text = (root / "config/proximity.yaml").read_text()
    file.write_text(
        text.replace('objects: ["person", "chair", "table", "door"]', 'objects: [""]').replace("rate: 0.0", "rate: 7.5")
    )
    node = graph.start(lambda *_: fake, cli=("--params-file", str(file)))
    assert node.get_parameter("rate").value == 7.5
    assert node._objects == ()
