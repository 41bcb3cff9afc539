"""Entry point of `python -m training.scenes`."""

import sys

from training.scenes.cli import main

if __name__ == "__main__":
    sys.exit(main())
