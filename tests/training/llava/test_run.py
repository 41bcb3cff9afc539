"""Two stages of a tiny LLaVA by Hugging Face's Trainer: it answers, kill -9 costs nothing, two processes are one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration, TrainingArguments

from proxqa_core.backends.config import BackendConfig
from proxqa_core.cli import main
from proxqa_core.engine import ProximityEngine
from proxqa_core.model.adapter import LORA, read_info
from proxqa_training.llava.config import LlavaRecipe
from proxqa_training.llava.run import LlavaRun, _arguments
from tests.core.tiny_llava import save_llava

ROOT = Path(__file__).parents[3]
CONFIG = """
batch_size: 4
per_device_batch_size: {per_device}
num_epochs: 1
lr: 0.002
projector_lr: 0.001
max_seq_len: 300
save_steps: 2
lora: {{rank: 4, alpha: 8, dropout: {dropout}}}
"""


def config(place: Path, per_device: int = 2, dropout: float = 0.05) -> Path:
    path = place / f"recipe-{per_device}-{dropout}.yaml"
    path.write_text(CONFIG.format(per_device=per_device, dropout=dropout))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA, 10 samples of each stage, two of both: one of text alone, one of three images."""
    place: Path = tmp_path_factory.mktemp("train")
    save_llava(place / "base")
    rng = np.random.default_rng(0)
    samples = []
    for i in range(10):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(place / f"{i}.png")
        for stage, question, answer in (
            ("perceive", "How far is the chair?", f"0.{7 * i:02}"),
            ("reason", "Which is closer: A, the chair, or B, the table?", f"Closer: {'AB'[i % 2]}"),
        ):
            turns = [
                ("human", f"<image>\n{question}"),
                ("gpt", answer),
                ("human", "And the dog?"),
                ("gpt", "not visible"),
            ]
            told = [{"from": who, "value": text} for who, text in turns]
            samples.append({"id": f"{stage}/{i}", "image": f"{i}.png", "stage": stage, "conversations": told})
    told = [{"from": "human", "value": "What is two and two?"}, {"from": "gpt", "value": "Four."}]
    samples.append({"id": "text", "stage": "mixed", "conversations": told})
    turns = [("human", "Here <image>, here\n<image>: which chair is closer?"), ("gpt", "The first.")]
    turns += [("human", "<image>\nAnd here?"), ("gpt", "No chair.")]
    told = [{"from": who, "value": text} for who, text in turns]
    samples.append({"id": "three", "image": ["0.png", "4.png", "7.png"], "stage": "mixed", "conversations": told})
    (place / "mix.json").write_text(json.dumps(samples))
    return place


def command(place: Path, out: Path, *more: object, stage: str = "perceive", recipe: Path | None = None) -> list[str]:
    options = ["--model", place / "base", "--data", place / "mix.json", "--out", out, "--device", "cpu", *more]
    return [stage, *map(str, options), "--config", str(recipe or config(place))]


def environment() -> dict[str, str]:
    here = [str(ROOT), str(ROOT / "training"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in here if p), "HF_HUB_OFFLINE": "1"}


def start(arguments: list[str], *launcher: str) -> subprocess.Popen[str]:
    how = launcher or (sys.executable,)
    return subprocess.Popen(
        [*how, "-m", "proxqa_core.cli", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def perceived(place: Path) -> Path:
    """The run of stage 1, which was never stopped."""
    assert main(["train", *command(place, place / "whole")]) == 0
    return place / "whole"


@pytest.mark.slow
def test_two_stages_and_the_adapter_is_a_plain_one_too(
    place: Path, perceived: Path, train: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    first = perceived / "adapter"
    code, out, err = train(*command(place, tmp_path / "r", "--start", first, "--json", "-", stage="reason"))
    assert code == 0, err
    report = json.loads(out)
    second = Path(report["adapter"])
    assert report["training"]["samples"] == {"reason": 10, "mixed": 2} and report["bad_images"] == []
    assert not read_info(first).reasons and read_info(second).reasons
    plain = ProximityEngine.load(str(place / "base"), device="cpu", dtype="float32")
    engine = ProximityEngine.load(str(place / "base"), second, device="cpu", dtype="float32")
    image = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    depths = [e.encode_image(image).depths(["chair"])[0].depth for e in (plain, engine, plain.with_adapter(second))]
    assert depths[1] == depths[2] != depths[0]
    # what peft alone makes of the folder are the same weights; every layer and the projector have moved
    llava = LlavaForConditionalGeneration.from_pretrained(place / "base", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(llava, str(second)).merge_and_unload().state_dict()
    ours, before = engine.model.llava.state_dict(), plain.model.llava.state_dict()
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-6) for k in theirs)
    moved = {k for k in ours if not torch.equal(ours[k], before[k])}
    assert {k.split(".")[-2] for k in moved} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "linear_1", "linear_2")
    }
    assert not any("vision_tower" in k for k in moved)
    a, b = load_file(first / LORA), load_file(second / LORA)
    assert a.keys() == b.keys() and not any(torch.equal(a[k], b[k]) for k in a if "lora_B" in k)


@pytest.mark.slow
def test_after_kill_9_it_ends_as_if_nothing_had_been(place: Path, perceived: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = start(command(place, out))
    deadline = time.monotonic() + 200
    while not (out / "checkpoint-2" / "whole").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1][-3000:]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "adapter").exists()
    half = shutil.copytree(out / "checkpoint-2", out / "checkpoint-3")  # one that was being written
    (half / "whole").unlink()
    (half / "optimizer.pt").write_bytes(b"half")
    assert main(["train", *command(place, out)]) == 0
    a, b = load_file(out / "adapter" / LORA), load_file(perceived / "adapter" / LORA)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def by_one(place: Path) -> Path:
    """The adapter of one process with 4 conversations a step, without dropout."""
    assert main(["train", *command(place, place / "one", recipe=config(place, 4, 0.0))]) == 0
    return place / "one" / "adapter"


def check_same(one: Path, other: Path) -> None:
    """Two adapters have the same weights, to what sums of floats in another order differ by, and were trained."""
    a, b = load_file(other / LORA), load_file(one / LORA)
    assert a.keys() == b.keys() and max(float(v.abs().max()) for k, v in a.items() if "lora_B" in k) > 1e-3  # from 0
    assert max(float((a[k].float() - b[k].float()).abs().max()) for k in a) < 1e-4


@pytest.mark.slow
def test_two_processes_train_what_one_does(place: Path, by_one: Path, tmp_path: Path) -> None:
    """With the same batch of a step: 2 x 2 conversations, and 4."""
    two = start(
        command(place, tmp_path / "two", recipe=config(place, 2, 0.0)),
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    )
    finish(two)
    check_same(by_one, tmp_path / "two" / "adapter")


@pytest.fixture(scope="module", params=[2, 3])
def deepspeed_run(place: Path, request: pytest.FixtureRequest) -> Callable[[], Path]:
    """Trains, or goes on, under ZeRO 2 or 3 in two processes, and gives the run; ours but for bfloat16.

    One conversation at once: that of text alone meets one with images in the other process.
    """
    pytest.importorskip("deepspeed")
    out, name = place / f"zero{request.param}", f"accelerate_zero{request.param}.yaml"
    shipped = (ROOT / "training" / "proxqa_training" / "configs" / name).read_text()
    (place / name).write_text(shipped.replace("mixed_precision: bf16", 'mixed_precision: "no"'))
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(place / name))

    def train() -> Path:
        if not (out / "adapter").exists():
            finish(start(command(place, out, recipe=config(place, 1, 0.0)), *launcher, "--num_processes", "2"))
        return out

    return train


@pytest.mark.slow
def test_deepspeed_trains_what_one_process_does(deepspeed_run: Callable[[], Path], by_one: Path) -> None:
    check_same(by_one, deepspeed_run() / "adapter")


@pytest.mark.slow
def test_deepspeed_goes_on_from_a_checkpoint(deepspeed_run: Callable[[], Path]) -> None:
    out = deepspeed_run()
    whole = (out / "adapter" / LORA).read_bytes()
    _, last = sorted(out.glob("checkpoint-*"))
    shutil.rmtree(last)
    shutil.rmtree(out / "adapter")
    assert (deepspeed_run() / "adapter" / LORA).read_bytes() == whole


@pytest.mark.slow
def test_a_bad_image_is_named_and_another_command_on_a_run_is_refused(
    place: Path, train: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(1, 10):
        shutil.copy(place / f"{i}.png", images)
    (images / "3.png").write_bytes(b"no image")
    options = ("--images", images, "--steps", 3, "--json", "-")
    code, out, err = train(*command(place, tmp_path / "r", *options))
    assert code == 0, err
    report = json.loads(out)
    assert set(report["bad_images"]) <= {"0.png", "3.png"} and report["training"]["steps"] == 3
    code, _, err = train(*command(place, tmp_path / "r", *options, stage="reason"))
    assert code != 0 and "holds a run with another stage" in err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--data", "/nothing.json"), "argument --data: /nothing.json: no such file"),
        (("--start", "/nothing"), "argument --start: /nothing: no such folder"),
        (("--steps", 0), "expected"),
        (("--device", "cuda"), "no CUDA device was found"),
    ],
)
def test_bad_input_is_one_line(
    place: Path, train: Callable[..., tuple[int, str, str]], tmp_path: Path, more: tuple[object, ...], message: str
) -> None:
    if more[0] == "--device" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, _, err = train(*command(place, tmp_path / "r", *more))
    assert code != 0 and message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch_size: 3", "batch_size is 3; expected a multiple of per_device_batch_size times processes, 2 x 1 = 2"),
        ("lr: 0", "lr is 0; expected a finite number above 0"),
        ("colour: red", "has unknown"),
        ("lora: {rank: 0}", "rank is 0"),
    ],
)
def test_recipes_that_do_not_hold(
    place: Path, train: Callable[..., tuple[int, str, str]], tmp_path: Path, change: str, message: str
) -> None:
    (tmp_path / "r.yaml").write_text(f"per_device_batch_size: 2\n{change}\n")
    code, _, err = train(*command(place, tmp_path / "r", recipe=tmp_path / "r.yaml"))
    assert code != 0 and message in err and "Traceback" not in err


def test_several_gpus_without_a_launcher_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the Trainer cuts every tensor of a batch in as many parts, the pixels of its images too."""
    made = TrainingArguments.__post_init__

    def with_three(self: TrainingArguments) -> None:
        made(self)
        self._n_gpu = 3

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_three)
    run = LlavaRun("perceive", "default", tmp_path, tmp_path, tmp_path, device="cpu")
    assert _arguments(run, LlavaRecipe()).n_gpu == 1
    assert "1 of 3 GPUs is used; expected `accelerate launch` for more" in caplog.text


@pytest.mark.slow
@pytest.mark.model
def test_the_bundled_default_by_the_same_command(
    place: Path, train: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    recipe = tmp_path / "one.yaml"  # a step of one conversation
    recipe.write_text(CONFIG.format(per_device=1, dropout=0.0).replace("batch_size: 4", "batch_size: 1"))
    arguments = command(place, tmp_path / "r", "--steps", 1, recipe=recipe)
    arguments[arguments.index("--model") + 1] = "default"
    code, _, err = train(*arguments)
    assert code == 0, err
    adapter, torch_alone = tmp_path / "r" / "adapter", BackendConfig("torch")
    engine = ProximityEngine.load("default", adapter, device="cpu", dtype="float32", backend=torch_alone)
    image = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    assert 0 <= engine.encode_image(image).depths(["chair"])[0].depth <= 1
