"""Synthetic scenes rendered with Blender from Sweet Home 3D models, with true depth, masks and names."""
