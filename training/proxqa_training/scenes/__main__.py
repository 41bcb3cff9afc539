"""Entry point of `python -m proxqa_training.scenes`."""

import sys

from proxqa_training.scenes.cli import main

if __name__ == "__main__":
    sys.exit(main())
