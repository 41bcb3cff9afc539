#!/usr/bin/env bash
# Guess:     of an MCAP whose recorder lost power (no footer), NonSeekingReader still gives what lies before the
#            cut: it reads front to back and needs no index.
# Behaviour: it gives nothing: by default it first reads everything to sort it by log time, and raises at the cut
#            before the first message. With log_time_order=False it gives all the messages, then raises.
# Versions:  mcap 1.6.0
# Source:    https://github.com/foxglove/mcap/pull/528 (why it loads all of an unindexed file); mcap/reader.py,
#            NonSeekingReader.iter_messages
# Matters:   robots are switched off while they record, and the last bag is the interesting one. "Unreadable" bags
#            hold nearly everything; without the flag a long healthy one also needs its whole size in memory.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'mcap==1.6.0'
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import io

from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import Writer

COUNT = 100
stream = io.BytesIO()
writer = Writer(stream, chunk_size=2000)
writer.start()
channel = writer.register_channel("/depth", "json", writer.register_schema("depth", "jsonschema", b"{}"))
for second in range(COUNT):
    writer.add_message(channel, second * 10**9, b"{}" * 50, second * 10**9)
end_of_data = stream.tell()  # whole chunks only: what a recorder has on disk when the power goes
writer.finish()
whole, cut = stream.getvalue(), stream.getvalue()[: end_of_data - 10]


def read(reader, **options):
    count = 0
    try:
        for _ in reader.iter_messages(**options):
            count += 1
    except Exception as error:
        return count, type(error).__name__
    return count, "no error"


seen = {
    "whole, make_reader": read(make_reader(io.BytesIO(whole))),
    "whole, NonSeekingReader": read(NonSeekingReader(io.BytesIO(whole))),
    "cut, make_reader": read(make_reader(io.BytesIO(cut))),
    "cut, NonSeekingReader": read(NonSeekingReader(io.BytesIO(cut))),
    "cut, NonSeekingReader, log_time_order=False": read(NonSeekingReader(io.BytesIO(cut)), log_time_order=False),
}
for how, (count, end) in seen.items():
    print(f"{how}: {count} of {COUNT} messages, then {end}")
counts = {how: count for how, (count, _) in seen.items()}
assert counts["whole, make_reader"] == counts["whole, NonSeekingReader"] == COUNT
assert counts["cut, NonSeekingReader"] == 0, "it gives them by default now"
assert counts["cut, NonSeekingReader, log_time_order=False"] > 0.7 * COUNT
PY
