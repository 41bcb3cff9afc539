"""Entry point of `python -m proxqa_core.cli`, which launchers such as torchrun start as well."""

import sys

from proxqa_core.cli import main

sys.exit(main())
