#!/usr/bin/env python3
"""How fast, and in how much memory, does a GPU train LLaVA-1.5-7B's shapes? Some steps of both stages, random weights.

Promises: no weight is downloaded; a checkpoint of LLaVA-1.5-7B's shapes is written (14.1 GB in bfloat16, beside the
bundled tokenizer, whose vocabulary is somewhat larger) and trained by the same code as `proxqa train perceive` and
`reason`, on made-up conversations of about `--tokens` tokens. `--tiny` tries the script itself, on a CPU.

    .venv/bin/python scripts/train_7b_shapes.py --out /data/shapes --steps 20 --per-device 16 --json shapes.json
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))  # the checkout's modules
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

from proxqa_core.errors import ProxqaError
from proxqa_core.files import write_text
from proxqa_core.model.base_weights import default_base

log = logging.getLogger("train_7b_shapes")
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<image>\n{% else %}{{ c['text'] }} {% endif %}{% endfor %}ASSISTANT:{% else %} {% for c in m['content'] %}"
    "{{ c['text'] }}{% endfor %}{{ eos_token }}{% endif %}{% endfor %}"
)
SIDE_PX, PATCH_PX = 336, 14
ANSWER_TOKENS = 24
"""About, of a question and its answer: fills conversations up to `--tokens`."""


def make_checkpoint(place: Path, tiny: bool, device: str) -> None:
    """Write a LLaVA of random weights, of LLaVA-1.5-7B's shapes or of tiny ones."""
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers import LlavaForConditionalGeneration as Llava

    tokenizer = AutoTokenizer.from_pretrained(default_base())
    tokenizer.chat_template = TEMPLATE
    wide, layers, vision_wide, vision_layers, mlp = (64, 2, 32, 3, 96) if tiny else (4096, 32, 1024, 24, 11008)
    vision = CLIPVisionConfig(
        hidden_size=vision_wide,
        intermediate_size=4 * vision_wide,
        num_hidden_layers=vision_layers,
        num_attention_heads=2 if tiny else 16,
        image_size=SIDE_PX,
        patch_size=PATCH_PX,
        projection_dim=768,
    )
    text = LlamaConfig(
        hidden_size=wide,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=2 if tiny else 32,
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, vision_feature_layer=-2)
    config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            llava = Llava(config)
    finally:
        torch.set_default_dtype(default)
    llava.to(torch.bfloat16).save_pretrained(place, max_shard_size="4GB")
    tokenizer.save_pretrained(place)
    size = {"height": SIDE_PX, "width": SIDE_PX}
    CLIPImageProcessor(size={"shortest_edge": SIDE_PX}, crop_size=size).save_pretrained(place)


def make_data(place: Path, count: int, tokens: int) -> Path:
    """Write conversations of about so many tokens, image included, of both stages; returns their file."""
    rng = np.random.default_rng(0)
    image_tokens = (SIDE_PX // PATCH_PX) ** 2
    turns = max(1, (tokens - image_tokens) // ANSWER_TOKENS)
    samples = []
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(place / f"{i}.jpg")
        for stage, ask in (("perceive", "How far is the chair?"), ("reason", "Which is closer: A, the chair, or B?")):
            told: list[dict[str, str]] = []
            for n in range(turns):
                told += [{"from": "human", "value": ("" if n else "<image>\n") + ask}]
                told += [{"from": "gpt", "value": f"0.{rng.integers(100):02} or so."}]
            samples.append({"id": f"{stage}/{i}", "image": f"{i}.jpg", "stage": stage, "conversations": told})
    write_text(place / "mix.json", json.dumps(samples))
    return place / "mix.json"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train both stages; returns samples a second and peak memory of each."""
    from proxqa_training.llava.config import LlavaRecipe
    from proxqa_training.llava.run import LlavaRun, train_llava

    options.out.mkdir(parents=True, exist_ok=True)
    cuda = torch.cuda.is_available()
    if not (options.out / "base" / "config.json").exists():
        make_checkpoint(options.out / "base", options.tiny, "cuda" if cuda else "cpu")
    data = make_data(options.out, min(256, options.steps * options.batch), options.tokens)
    recipe = LlavaRecipe(
        batch_size=options.batch, per_device_batch_size=options.per_device, save_steps=options.steps + 1
    )
    device = torch.cuda.get_device_name() if cuda else "cpu"
    report: dict[str, Any] = {"device": device, "per_device": options.per_device, "batch": options.batch}
    start = None
    for stage in ("perceive", "reason"):
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        run = LlavaRun(
            stage, str(options.out / "base"), data, options.out, options.out / stage, start=start, steps=options.steps
        )
        made = train_llava(run, recipe)
        start = Path(made["adapter"])
        report[stage] = {
            "samples_per_second": made["samples_per_second"],
            "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        }
    return report


def main() -> int:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the checkpoint and the runs (20 GB)")
    add("--steps", type=int, default=20, help="of each stage (default: %(default)s)")
    add("--batch", type=int, default=16, help="conversations of a step (default: %(default)s)")
    add("--per-device", type=int, default=16, help="of them at once (default: %(default)s)")
    add("--tokens", type=int, default=1024, help="of a conversation, image included, about (default: %(default)s)")
    add("--tiny", action="store_true", help="tiny shapes, to try the script")
    add("--json", type=Path, help="file to write")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not options.tiny and not torch.cuda.is_available():
        log.error(
            "no GPU is seen: a model of 7 billion parameters is measured on one; --tiny tries the script on a CPU"
        )
        return 1
    try:
        report = measure(options)
    except (ProxqaError, ValueError, OSError) as error:
        log.error("%s", error)
        return 1
    text = json.dumps(report, indent=1)
    if options.json:
        write_text(options.json, text + "\n")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
