#!/usr/bin/env bash
# Guess:     lmms-eval reads an answer the same way in its tasks CV-Bench and BLINK, which ask the same kind of question,
#            and finds the option in a sentence ("The answer is (B)." is B).
# Behaviour: only BLINK does. CV-Bench takes the first letter of the first word, whatever the word is: that answer is
#            T, which is wrong, "Based on their sizes, (A) is closer." is B, the opposite, and "A closer look shows (B)."
#            is A. BLINK too takes "Both are equally far." for B.
# Versions:  lmms-eval 0.7.3 (BLINK before that was as CV-Bench still is)
# Source:    lmms_eval/tasks/cv_bench/utils.py and lmms_eval/tasks/blink/utils.py, _extract_answer_letter: re.match of
#            [\(\s]*([A-Z])[\)\.\s]* with IGNORECASE does not ask that the letter stands alone.
# Matters:   a model that answers in sentences scores by how they begin: "The …" and "Point …" never, "Based on …" where
#            B is right. A difference between two models, or between their CV-Bench and BLINK figures, may be just that.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps 'lmms-eval==0.7.3' # the two functions need nothing else
"$tmp/venv/bin/python" - <<'PY'
import ast
import re
import string
import sysconfig
from pathlib import Path

TASKS = Path(sysconfig.get_paths()["purelib"]) / "lmms_eval/tasks"
SAID = {  # what a model says: what CV-Bench takes, what BLINK takes
    "B": ("B", "B"),
    "(A)": ("A", "A"),
    "The answer is (B).": ("T", "B"),
    "Based on their sizes, (A) is closer.": ("B", "A"),
    "A closer look shows (B).": ("A", "B"),
    "Point B is closer.": ("P", ""),
    "Both are equally far.": ("B", "B"),
}


def extractor(task):
    """The task's own function, from the installed file: importing the package would need all that it can evaluate."""
    tree = ast.parse((TASKS / task / "utils.py").read_text())
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "_extract_answer_letter")
    found = {"re": re, "string": string}
    exec(compile(ast.Module([function], []), task, "exec"), found)
    return found["_extract_answer_letter"]


cv_bench, blink = extractor("cv_bench"), extractor("blink")
for said, expected in SAID.items():
    taken = cv_bench(said), blink(said, "AB")
    print(f"{said!r}: CV-Bench {taken[0]!r}, BLINK {taken[1]!r}")
    assert taken == expected
PY
