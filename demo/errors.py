"""What can go wrong with the demo."""


class DemoError(Exception):
    """Why the demo cannot go on, in one line."""
