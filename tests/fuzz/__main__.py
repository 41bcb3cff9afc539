"""Fuzz everything that reads what comes from outside: `python -m tests.fuzz --json out/fuzz.json`.

Exits with 1 where there was a traceback or a hang. Input i of a seed is always the same: `--only bags --from 17
--count 1` runs one again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

from tests.fuzz.harness import Outcome, Tally, fuzz
from tests.fuzz.targets import TARGETS

COUNTS = {
    "bags": 1500,
    "image files": 1500,
    "image messages": 2000,
    "model folders": 200,
    "adapters": 800,
    "training checkpoints": 800,
    "annotations": 1500,
    "questions": 3000,
    "parameters": 3000,
}
"""How many inputs of each kind, by default."""


def table(tallies: dict[str, Tally]) -> str:
    """One row a kind, as Markdown."""
    rows = [f"| inputs | {' | '.join(o.value for o in Outcome)} |", "|---" * (len(Outcome) + 1) + "|"]
    for name, tally in tallies.items():
        rows.append(f"| {tally.outcomes.total()} {name} | {' | '.join(str(tally.outcomes[o]) for o in Outcome)} |")
    return "\n".join(rows)


def main() -> int:
    """Run, print the table and the failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=TARGETS, nargs="+", default=list(TARGETS))
    parser.add_argument("--count", type=int, help="inputs of each kind (default: as the table in docs/reliability.md)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    tallies = {}
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="proxqa-fuzz-") as folder:
            count = COUNTS[name] if options.count is None else options.count
            tallies[name] = fuzz(TARGETS[name](Path(folder)), count, options.seed, options.first)
    print(table(tallies))
    for name, tally in tallies.items():
        for failure, key in tally.failures.items():
            print(f"{name} {key}: {failure}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({name: t.report() for name, t in tallies.items()}, indent=1) + "\n")
    return int(any(t.bad for t in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
