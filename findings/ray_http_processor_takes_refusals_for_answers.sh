#!/usr/bin/env bash
# Guess:     a request that a server refuses (400, 401, 404) fails its row, as a connection that is lost does, and
#            should_continue_on_error decides what becomes of it.
# Behaviour: the body of any status but 429, 408, 504, 502 and 503 is the row's http_response, and the job succeeds. Not
#            one answer may be an answer. (And aiohttp and pydantic, which it imports, do not come with
#            ray[data].)
# Versions:  ray 2.60.0, aiohttp 3.14.5, pydantic 2.14.3
# Source:    ray/llm/_internal/batch/stages/http_request_stage.py: only RETRYABLE_STATUS_CODES are looked at
# Matters:   a job that labels 100,000 images by a server whose key has run out ends well, and writes 100,000 error
#            objects where labels are expected. Look for "error" in http_response before anything is kept.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'ray[data]==2.60.0' 'aiohttp==3.14.5' 'pydantic==2.14.3'
cat > "$tmp/show.py" <<'PY'
import http.server
import json
import threading

import ray
from ray.data.llm import HttpRequestProcessorConfig, build_processor


class Refuses(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"error": {"message": "wrong key"}}).encode()
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
threading.Thread(target=server.serve_forever, daemon=True).start()
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
ask = build_processor(
    HttpRequestProcessorConfig(url=f"http://127.0.0.1:{server.server_port}", concurrency=1, batch_size=2),
    preprocess=lambda row: {"payload": {"question": row["question"]}},
    postprocess=lambda row: {"answer": json.dumps(row["http_response"])},
)
rows = ask(ray.data.from_items([{"question": "a"}, {"question": "b"}])).take_all()
print("every request was refused with 401; the job gave:", [row["answer"] for row in rows])
assert [json.loads(row["answer"]) for row in rows] == [{"error": {"message": "wrong key"}}] * 2
PY
"$tmp/venv/bin/python" "$tmp/show.py" 2> "$tmp/log" || { tail -20 "$tmp/log"; exit 1; }
