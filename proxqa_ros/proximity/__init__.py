"""The node `proximity`."""
