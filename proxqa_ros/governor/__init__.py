"""The node `speed_governor`."""
