"""proxqa: how far named objects are and which is closer, from one image. Imports nothing of ROS."""

__version__ = "0.1.0"
