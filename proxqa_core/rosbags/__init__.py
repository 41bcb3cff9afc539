"""Bags and ROS message formats, without ROS."""
