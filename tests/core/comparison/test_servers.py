"""Comparing foreign models: loaded here, by `transformers serve` beside our engine, and a run that is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
)

from proxqa_core.cli import common, main
from proxqa_core.comparison import answerers
from proxqa_core.comparison.answerers import HuggingFaceAnswerer
from proxqa_core.comparison.questions import questions_of
from proxqa_core.comparison.sources import items_of_folder
from proxqa_core.errors import ProxqaError
from proxqa_core.model.base_weights import default_base
from tests.core.tiny_llava import SIDE, TEMPLATE, save_llava

SERVING = ("openai", "fastapi", "uvicorn")
MISSING = [name for name in SERVING if importlib.util.find_spec(name) is None]
needs_openai = pytest.mark.skipif("openai" in MISSING, reason="needs the package openai (extra compare)")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
START_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of three things, with metres: six pairs."""
    place = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    things = [("chair", [0, 0, 20, 40], 2.0), ("table", [20, 0, 60, 44], 4.0), ("lamp", [5, 5, 15, 47], 3.0)]
    records = []
    for i in range(2):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(place / f"{i}.png")
        objects = [{"name": n, "box": b, "depth_m": m} for n, b, m in things]
        records.append({"image": f"{i}.png", "width": 64, "height": 48, "objects": objects})
    (place / "annotations.json").write_text(json.dumps(records))
    return place


# -- transformers serve -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA with random weights and a whole processor."""
    place = save_llava(tmp_path_factory.mktemp("tiny"))
    processor = LlavaProcessor(
        CLIPImageProcessor.from_pretrained(place),
        AutoTokenizer.from_pretrained(place),
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(place)
    assert SIDE % 14 == 0
    return place


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a `transformers serve` of its own."""
    if MISSING:
        pytest.skip(f"transformers serve needs {', '.join(MISSING)}")
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    program = "from transformers.cli.transformers import main; main()"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **OFFLINE},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.slow
@pytest.mark.model
def test_transformers_serve_beside_our_engine_and_recorded_answers(
    served: str, tiny: Path, folder: Path, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "load_engine", lambda options: engine)
    recorded = [{"id": f"0.png#{p}", "answer": "A"} for p in ("0-1", "0-2")]
    (tmp_path / "always-a.jsonl").write_text("\n".join(map(json.dumps, recorded)))
    arguments = ["compare", "folder", str(folder), "--engine", "--server", f"{served}={tiny}",
                 "--recorded", str(tmp_path / "always-a.jsonl"), "--out", str(tmp_path / "answers"), "--limit", "2",
                 "--json", str(tmp_path / "report.json"), "--html", str(tmp_path / "page.html")]  # fmt: skip
    assert main(arguments) == 0
    models = {m["model"]: m for m in json.loads((tmp_path / "report.json").read_text())["models"]}
    ours = f"{engine.model_name} (by box)"
    assert list(models) == ["rule: lower edge", "rule: larger box", ours, str(tiny), "always-a"]
    # random weights say something to every question, in both orders, and seldom a letter
    assert models[str(tiny)]["questions"] == 4 and models[str(tiny)]["failed"] == 0
    assert models[ours]["failed"] == 0 and models[ours]["unparsed"] == 0
    assert models["always-a"]["accuracy_one_order"] == 1.0
    kept = next((tmp_path / "answers").glob("*tiny*.jsonl")).read_text().splitlines()
    assert len(kept) == 4 and any(json.loads(line)["text"] for line in kept)


@pytest.mark.slow
def test_a_model_of_hugging_face_is_asked_in_words_and_by_the_decision_pipeline(
    tiny: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ["compare", "folder", str(folder), "--hf", str(tiny), "--decision", str(tiny), "--limit", "1",
                 "--device", "cpu", "--out", str(tmp_path / "answers"),
                 "--json", str(tmp_path / "report.json")]  # fmt: skip
    assert main(arguments) == 0
    models = {m["model"]: m for m in json.loads((tmp_path / "report.json").read_text())["models"]}
    assert models[str(tiny)]["questions"] == 2 and models[str(tiny)]["failed"] == 0
    decided = models[f"{tiny} (decision)"]
    assert (decided["questions"], decided["failed"], decided["unparsed"]) == (2, 0, 0)
    kept = [json.loads(x) for x in next((tmp_path / "answers").glob("*decision*")).read_text().splitlines()]
    assert all(0 < row["probability"] < 1 and row["text"] == "BA"[row["probability"] >= 0.5] for row in kept)


@pytest.mark.slow
def test_a_model_without_a_chat_template_is_asked_in_its_own_way(folder: Path, tmp_path: Path) -> None:
    place = save_paligemma(tmp_path / "pali")
    answerer = HuggingFaceAnswerer(str(place), device="cpu", max_new_tokens=3)
    seen: list[str] = []
    processor = answerer._processor
    monkeyed = type("Seen", (), {"__call__": lambda _, **k: seen.append(k["text"]) or processor(**k),
                                 "__getattr__": lambda _, name: getattr(processor, name)})  # fmt: skip
    answerer._processor = monkeyed()
    questions = list(questions_of(islice(items_of_folder(folder), 1)))
    answers = answerer.answer(questions)
    assert [a.error for a in answers] == ["", ""]
    assert seen == [f"<image>answer en {q.text}" for q in questions]
    # three new tokens, without the question before them
    assert all(len(a.text) < 60 and "closer" not in a.text for a in answers)


def test_a_chat_template_that_never_ends_is_one_line(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "endless"
    shutil.copytree(tiny, place)
    for old in place.glob("chat_template*"):
        old.unlink()
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (place / "chat_template.jinja").write_text(endless)
    monkeypatch.setattr(answerers, "TEMPLATE_TIMEOUT_S", 0.3)
    with pytest.raises(ProxqaError, match=r"its chat template has not ended after 0\.3 s"):
        HuggingFaceAnswerer(str(place), device="cpu")


def save_paligemma(place: Path) -> Path:
    """A tiny PaliGemma with random weights: its processor has no chat template."""
    tokenizer = AutoTokenizer.from_pretrained(default_base())
    tokenizer.chat_template = None
    images = SiglipImageProcessor(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer)
    small: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                             "num_attention_heads": 2}  # fmt: skip
    text = {**small, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": len(processor.tokenizer)}
    config = PaliGemmaConfig(
        text_config={"model_type": "gemma", **text},
        vision_config={"model_type": "siglip_vision_model", **small, "image_size": 56, "patch_size": 14},
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(config).save_pretrained(place)
    processor.save_pretrained(place)
    return place


# -- a run that is killed ---------------------------------------------------------------------------------------------


class SlowServer(ThreadingHTTPServer):
    """Answers every question with A or B, by its words alone, after a while. asked: how many questions came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Slow)
        self.asked: list[str] = []


class _Slow(BaseHTTPRequestHandler):
    server: SlowServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = request["messages"][0]["content"][1]["text"]
        self.server.asked.append(text)
        time.sleep(0.1)
        message = {"role": "assistant", "content": "AB"[sum(text.encode()) % 2]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the questions are counted."""


@pytest.fixture
def slow() -> Iterator[SlowServer]:
    with SlowServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def compare(folder: Path, server: SlowServer, out: Path) -> list[str]:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    return [sys.executable, "-m", "proxqa_core.cli", "compare", "folder", str(folder), "--server", f"{url}=m",
            "--concurrency", "2", "--out", str(out), "--json", "-"]  # fmt: skip


@pytest.mark.slow
@needs_openai
def test_a_killed_comparison_goes_on_and_ends_the_same(folder: Path, slow: SlowServer, tmp_path: Path) -> None:
    done = subprocess.run(compare(folder, slow, tmp_path / "whole"), capture_output=True, timeout=120, check=True)
    whole = json.loads(done.stdout)
    assert whole["models"][-1]["questions"] == 12 == len(slow.asked)
    kills = 0
    while True:  # killed again and again, as soon as something more has been answered
        before = len(slow.asked)
        run = subprocess.Popen(compare(folder, slow, tmp_path / "cut"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while run.poll() is None and len(slow.asked) < before + 4:
            time.sleep(0.005)
        if run.poll() is None and kills < 3:
            run.send_signal(signal.SIGKILL)
            run.communicate()
            kills += 1
            continue
        out, _ = run.communicate(timeout=120)
        break
    assert kills == 3 and run.returncode == 0
    assert json.loads(out) == whole
    # what was on its way when it was killed is asked again, the rest is not
    assert len(slow.asked) - 12 <= 12 + 2 * kills * 2


@needs_openai
def test_a_server_that_is_not_there_fails_in_one_line_each(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxqa_core.comparison import answerers

    made = answerers.OpenAIAnswerer
    monkeypatch.setattr(answerers, "OpenAIAnswerer", lambda *a: made(*a[:4], retries=0))
    url = f"http://127.0.0.1:{free_port()}/v1"
    arguments = ["compare", "folder", str(folder), "--server", f"{url}=m", "--out", str(tmp_path), "--json", "-"]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["models"][-1]["failed"] == 12
    assert "m: 12 of 12 questions failed, the first: APIConnectionError" in output.err
