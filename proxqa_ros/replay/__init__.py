"""The node `replay_evaluation`."""
