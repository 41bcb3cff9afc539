"""How Sphinx builds the documentation: `make docs`. Nothing of it needs PyTorch, ROS or Blender: those are mocked."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "training")]

project = "proxqa"
author = "The proxqa developers"
release = re.search(r"<version>([^<]+)</version>", (ROOT / "package.xml").read_text()).group(1)
copyright = "The proxqa developers"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.apidoc"]
exclude_patterns = ["**/modules.rst"]
html_theme = "alabaster"
html_theme_options = {"description": release, "page_width": "1100px", "fixed_sidebar": True}
myst_heading_anchors = 3
# Links to files of the checkout outside docs/ are right in the repository; tests/test_docs.py checks every link.
# Two rooms may use one name (`EncodedImage`, `Progress`): then the name of a type is no link.
suppress_warnings = ["myst.xref_missing", "ref.python"]

apidoc_automodule_options = {"members", "show-inheritance", "ignore-module-all"}
apidoc_modules = [
    {
        "path": f"../{package}",
        "destination": f"api/generated/{Path(package).name}",
        "separate_modules": True,
        "module_first": True,
        "implicit_namespaces": False,
        "exclude_patterns": ["**/__main__.py"],
    }
    for package in ("proxqa_core", "proxqa_ros", "training/proxqa_training")
]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_mock_imports = [
    # heavy
    *("torch", "transformers", "peft", "safetensors", "gguf", "tokenizers", "cv2", "accelerate", "onnx", "matplotlib"),
    *("bpy", "mathutils", "scipy", "h5py", "pyarrow", "ray", "rosbags", "ijson", "tqdm"),
    # ROS, and what the build generates
    *("rclpy", "action_msgs", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "nav2_msgs"),
    *("rcl_interfaces", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "tf2_msgs", "tf2_ros", "vision_msgs"),
    *("visualization_msgs", "rosidl_runtime_py", "ament_index_python", "rosidl_parser", "unique_identifier_msgs"),
    *("proxqa_ros.msg", "proxqa_ros.srv", "proxqa_ros.action", "domain_coordinator"),
]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"


def _plain_text(app, what, name, obj, options, lines) -> None:
    """Docstrings are plain text with `code` and lists: what reST would take for other markup is escaped."""
    plain: list[str] = []
    in_list = False
    for line in lines:
        begins = re.match(r"\s*[-*] ", line) is not None
        if begins and not in_list and plain and plain[-1].strip():
            plain.append("")  # a list may follow its paragraph at once
        in_list = begins or (in_list and line.startswith(" "))
        bullet, text = re.match(r"(\s*(?:[-*] )?)(.*)", line).groups()
        parts = re.split(r"(``.*?``|`[^`]*`|:\w+:`[^`]*`)", text)
        special = r"(?<!\\)\*|(?<!\\)\|(?=\S)|(?<=\w)_(?=\W|$)"
        plain.append(bullet + "".join(p if k % 2 else re.sub(special, r"\\\g<0>", p) for k, p in enumerate(parts)))
    lines[:] = plain


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Entry points of programs are no API; that of the command line would also clash with its module's name."""
    return True if name == "main" and callable(obj) else None


def setup(app) -> None:
    """Register the above."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _plain_text, priority=400)  # before napoleon
