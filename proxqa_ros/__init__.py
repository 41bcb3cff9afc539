"""ROS 2 side of proxqa: messages ⇄ the core's types, parameters, QoS, threads. Holds no model code.

The generated `msg`, `srv` and `action` modules live beside these in the installed package.
"""

# A source checkout holds no generated code: let an installed proxqa_ros further down sys.path contribute msg, srv and
# action.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)
