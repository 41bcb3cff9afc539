#!/usr/bin/env bash
# Guess:     gguf.GGUFReader maps the file, so that reading its metadata costs next to nothing.
# Behaviour: every string and number of the metadata is a slice of np.memmap, whose __getitem__ and
#            __array_finalize__ are Python: a vocabulary of 50,000 tokens and as many merges takes seconds, about
#            three quarters of which are gone when the same reader is given a plain array of the same mapped bytes.
#            What is read is the same.
# Versions:  gguf 0.19.0, numpy 2.4.6, Python 3.11
# Source:    gguf/gguf_reader.py (GGUFReader.__init__, _get); numpy/_core/memmap.py
# Matters:   transformers parses a file so up to three times for one from_pretrained(gguf_file=…), which is most of the
#            time until a small quantised model is loaded.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'gguf==0.19.0' 'numpy==2.4.6'
cd "$tmp"

cat > read.py <<'PY'
import time

import numpy as np
from gguf import GGUFReader, GGUFWriter

writer = GGUFWriter("vocabulary.gguf", "llama")
writer.add_token_list([f"token {i}" for i in range(50_000)])
writer.add_token_merges([f"a{i} b{i}" for i in range(50_000)])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()


class PlainReader(GGUFReader):
    @property
    def data(self):
        return self._data

    @data.setter
    def data(self, mapped):
        self._data = np.asarray(mapped)


def timed(kind):
    started = time.process_time()
    reader = kind("vocabulary.gguf")
    seconds = time.process_time() - started
    return seconds, {name: field.contents() for name, field in reader.fields.items()}


mapped_s, mapped = timed(GGUFReader)
plain_s, plain = timed(PlainReader)
print(f"np.memmap: {mapped_s:.2f} s of a core; a plain array of the same bytes: {plain_s:.2f} s")
assert mapped == plain and len(plain["tokenizer.ggml.tokens"]) == 50_000
assert mapped_s > 2 * plain_s
PY
"$tmp/venv/bin/python" read.py
