#!/usr/bin/env bash
# Guess:     a chat message's content, [{"type": "text", "text": ...}, {"type": "image_url", "image_url": {...}}], comes
#            out of an Arrow table (Ray Data, Hugging Face datasets, Parquet) as it went in.
# Behaviour: a list has one type: a struct of the keys of all its dicts. Each comes back with the keys of the others,
#            null: {"type": "text", "text": "...", "image_url": None}.
# Versions:  pyarrow 26.0.1
# Source:    https://github.com/huggingface/datasets/issues/7617 (the same by Dataset.from_dict, open)
# Matters:   a batch job over a server of OpenAI's kind sends these nulls as JSON. A server that checks its input refuses
#            every row, though the same messages are taken from the openai client; and what counts parts by their keys
#            ("image_url" in part) finds an image in every text.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'pyarrow==26.0.1'
"$tmp/venv/bin/python" - <<'PY'
import pyarrow

content = [
    {"type": "text", "text": "Which is closer?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
]
back = pyarrow.table({"content": [content]}).to_pylist()[0]["content"]
print("in: ", content)
print("out:", back)
assert back != content
assert back[0] == {"type": "text", "text": "Which is closer?", "image_url": None}
assert back[1]["text"] is None and all("image_url" in part for part in back)
PY
