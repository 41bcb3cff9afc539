"""The command line: one program, `proxqa`; `python -m proxqa_core.cli` is the same.

Promises: every command takes -v and -q, --json FILE where it reports ('-' = stdout), and --model, --adapter, --device
and --dtype where it loads a model; exit codes are 0, 1 (failure), 2 (bad input or usage) and 130 (interrupted). Knows
nothing of ROS; how answers are made is the engine's business.
"""

from proxqa_core.cli.main import main

__all__ = ["main"]
