"""Limits, and who may ask."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from proxqa_core import __version__
from proxqa_core.cli import main
from tests.core.serving.conftest import WAIT_S, HeldEngine, data_url, jpeg

ROOT = Path(__file__).resolve().parents[3]
httpx = pytest.importorskip("httpx2", reason="httpx2 is not installed")


def chat(address: str, url: str | None = None, **options: Any) -> Any:
    content = [
        {"type": "image_url", "image_url": {"url": url or data_url()}},
        {"type": "text", "text": "How far is the chair?"},
    ]
    body = {"model": "proxqa", "messages": [{"role": "user", "content": content}]}
    return httpx.post(f"{address}/v1/chat/completions", json=body, timeout=WAIT_S, **options)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_the_description_names_this_version(serve: Callable[..., str]) -> None:
    told = httpx.get(f"{serve()}/openapi.json").json()["info"]
    assert told == {"title": "proxqa", "version": __version__}


def test_too_much_is_refused(serve: Callable[..., str], engine_held: HeldEngine) -> None:
    address = serve(max_body_mb=0.01)
    answer = chat(address, data_url(b"x" * 20_000))
    assert answer.status_code == 413 and "0.01 MB" in answer.json()["error"]["message"]
    assert httpx.post(f"{address}/api/images", content=(b"x" * 1000 for _ in range(20))).status_code == 413  # chunked
    assert engine_held.encoded == 0


def test_too_often_is_refused(serve: Callable[..., str]) -> None:
    address = serve(requests_per_minute=3)
    assert [chat(address).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert "3 requests a minute" in chat(address).json()["error"]["message"]
    assert chat(address).headers["retry-after"] == "1"
    assert httpx.get(f"{address}/health").status_code == 200


def test_the_queue_is_short_and_forgets_those_who_left(serve: Callable[..., str], engine_held: HeldEngine) -> None:
    address = serve(max_waiting=2)
    engine_held.may_go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(chat, address, data_url(jpeg(grey=1)))
        until(lambda: engine_held.encoded == 1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/api/images", content=jpeg(grey=2), timeout=0.2)
        until(lambda: chat_is_taken(pool, address))
        engine_held.may_go_on.set()
        assert first.result().status_code == 200
    assert engine_held.encoded == 2  # that of the client that left was never begun


def chat_is_taken(pool: ThreadPoolExecutor, address: str) -> bool:
    """Whether there is room in the queue for one more; the one that got it waits."""
    waiting = pool.submit(chat, address, data_url(jpeg(grey=3)))
    done = threading.Event()
    waiting.add_done_callback(lambda _: done.set())
    return not done.wait(0.3) or waiting.result().status_code == 200


def test_a_full_queue_says_so(serve: Callable[..., str], engine_held: HeldEngine) -> None:
    address = serve(max_waiting=1)
    engine_held.may_go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(chat, address)
        until(lambda: engine_held.encoded == 1)
        answer = chat(address)
        assert answer.status_code == 429 and answer.json()["error"]["code"] == "queue_full"
        engine_held.may_go_on.set()
        assert first.result().status_code == 200


def test_who_waits_too_long_is_told(serve: Callable[..., str], engine_held: HeldEngine) -> None:
    address = serve(timeout_s=0.2)
    engine_held.may_go_on.clear()
    answer = chat(address)
    assert answer.status_code == 504 and "0.2 s" in answer.json()["error"]["message"]
    engine_held.may_go_on.set()


def test_a_fault_is_one_error_object(serve: Callable[..., str], engine_held: HeldEngine) -> None:
    def broken(image: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    engine_held.encode_image = broken  # type: ignore[method-assign]
    answer = chat(serve())
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text and "Traceback" not in answer.text


def test_other_sites_cannot_ask(serve: Callable[..., str]) -> None:
    address = serve()
    assert chat(address, headers={"Host": "evil.example"}).status_code == 403  # DNS rebinding
    assert httpx.get(f"{address}/", headers={"Host": "evil.example"}).status_code == 403
    assert chat(address, headers={"Origin": "https://evil.example"}).status_code == 403
    assert chat(address, headers={"Origin": address}).status_code == 200
    for odd in ("[::1", "localhost@evil.example", "", "\\\\localhost"):
        assert chat(address, headers={"Host": odd}).status_code in (400, 403), odd
    for odd in ("null", "http://[", f"http://x@{address[7:]}", ""):
        assert chat(address, headers={"Origin": odd}).status_code == 403, odd
    plain = httpx.post(f"{address}/api/ask", content="{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 400  # what a form of another site can send is no JSON


def test_the_page_may_run_its_own_scripts_only(serve: Callable[..., str]) -> None:
    page = httpx.get(f"{serve()}/")
    policy = page.headers["content-security-policy"]
    assert page.status_code == 200 and "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "<script>" not in page.text and " onclick" not in page.text and "style=" not in page.text
    assert page.headers["x-content-type-options"] == "nosniff"


def test_the_page_is_part_of_the_package() -> None:
    import setuptools

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["package-data"] == {"*": ["*"]}
    find = settings["packages"]["find"]
    assert "proxqa_core.serving.static" in setuptools.find_namespace_packages(
        str(ROOT), find["exclude"], find["include"]
    )


def test_unknown_addresses_are_error_objects(serve: Callable[..., str]) -> None:
    address = serve()
    for path in ("/nothing", "/v1/embeddings", "/../../etc/passwd", "/%2e%2e/app.py"):
        answer = httpx.get(address + path)
        assert answer.status_code == 404 and answer.json()["error"]["message"], path
    newer = httpx.post(f"{address}/v1/responses", json={"model": "proxqa", "input": "?"})
    assert newer.status_code == 404 and "only /v1/chat/completions" in newer.json()["error"]["message"]


def test_an_image_that_is_forgotten(serve: Callable[..., str]) -> None:
    address = serve(remembered_images=1)
    keys = [httpx.post(f"{address}/api/images", content=jpeg(grey=g)).json()["image"] for g in (1, 2)]
    answers = [
        httpx.post(f"{address}/api/ask", json={"image": key, "question": "", "objects": [{"name": "chair"}]})
        for key in keys
    ]
    assert [a.status_code for a in answers] == [404, 200]
    assert answers[1].json()["objects"][0]["depth"] == 0.2


# --- images by URL ---------------------------------------------------------------------------------------------------


class Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away.jpg":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(jpeg() if self.path == "/photo.jpg" else b"x" * 200_000)

    def log_message(self, *args: Any) -> None:
        """Quietly."""


@pytest.fixture
def pictures() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_images_are_fetched_from_hosts_that_were_named(serve: Callable[..., str], pictures: str) -> None:
    address = serve(image_url_hosts=("127.0.0.1",), max_body_mb=0.1)
    assert chat(address, f"{pictures}/photo.jpg").status_code == 200
    away = chat(address, f"{pictures}/away.jpg")
    assert away.status_code == 403 and "169.254.169.254" in away.json()["error"]["message"]
    assert chat(address, f"{pictures}/large").status_code == 413
    assert chat(address, pictures.replace("127.0.0.1", "localhost")).status_code == 403


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "70000"], "0 to 65535"),
        (["--host", "203.0.113.7"], "no address of this machine"),
        (["--boxes", "/nowhere"], "is no folder"),
        (["--no-model"], "give --node or --boxes DIR too"),
        (["--max-mb", "0"], "above 0"),
        (["--queue", "0"], "from 1"),
    ],
)
def test_a_command_line_that_cannot_be_used(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxqa_core.cli import common

    def load(options: Any) -> None:
        raise AssertionError("the model was loaded before the input was checked")

    monkeypatch.setattr(common, "load_engine", load)
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_boxes_are_drawn_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxqa_core.serving import run

    made: list[Any] = []
    monkeypatch.setattr(run, "serve", lambda config, engine, node: made.extend([config.boxes_folder, engine(), node()]))
    assert main(["serve", "--no-model", "--boxes", str(tmp_path)]) == 0
    assert made == [tmp_path, None, None]


def test_a_port_that_is_taken(serve: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    port = serve().rpartition(":")[2]
    assert main(["serve", "--port", port]) == 2
    assert "in use" in capsys.readouterr().err


def test_without_the_web_framework_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.startswith("proxqa_core.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve"]) == 1
    assert "uvicorn is not installed" in (said := capsys.readouterr().err) and "pip install" in said


@pytest.mark.model
@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(demo_frame: bytes) -> None:
    command = [sys.executable, "-m", "proxqa_core.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = ""
            while not (address := re.search(r"serving (http://127\.0\.0\.1:\d+)", said)):
                said += (line := process.stderr.readline())
                assert line, said
            httpx.Client().get(f"{address[1]}/stage.js").raise_for_status()
            image = httpx.post(f"{address[1]}/api/images", content=demo_frame, timeout=WAIT_S).json()
            asked = {"image": image["image"], "question": "How far is the vase?"}
            assert "vase" in httpx.post(f"{address[1]}/api/ask", json=asked, timeout=WAIT_S).json()["answer"]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode == 0 and "Traceback" not in errors
