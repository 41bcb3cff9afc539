"""Two-stage training of projector and LoRA on cached features.

Promises: one run is one YAML file and one folder; stopped at any time it goes on from its last checkpoint; the result
is an adapter folder (`proxqa_core.model.adapter`). Every turn of an image branches off the same prefix with the very mask
and positions used for answering, so what is trained is what is asked. Knows nothing of rendering or of evaluation.

Memory-frugal on purpose: base and LoRA in bfloat16 where the hardware multiplies it, with float32 master weights, and
logits only where an answer is supervised.
"""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tqdm import tqdm

from proxqa_core.llm.branching import pack
from proxqa_core.model.adapter import Lora
from proxqa_core.model.loading import LoadedModel, choose_dtype
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_core.vision.regions import region_tokens
from proxqa_training.distributed import DistributedContext
from proxqa_training.instructions.build import Recipe, Turn, turns
from proxqa_training.prefetch import prepared
from proxqa_training.stages.data import Sample, TrainingSet, pointing
from proxqa_training.tower.run import soft_digits

LORA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IGNORE = -100


@dataclass(frozen=True)
class StageConfig:
    """One stage. images: how many image conversations are seen. batch: of them a step. rates: peaks of a cosine.

    row_tokens: length of every row; turns that do not fit are left out, so that all steps have one shape.
    photo_share: share of images from those without measured depth, where there are any.
    """

    name: str
    images: int
    recipe: Recipe = field(default_factory=Recipe)
    batch: int = 8
    lora_rate: float = 6e-4
    projector_rate: float = 3e-4
    warmup: float = 0.05
    depth_spread: float = 0.025
    row_tokens: int = 320
    photo_share: float = 0.25

    def __post_init__(self) -> None:
        for key in ("images", "batch", "lora_rate", "projector_rate", "row_tokens"):
            if getattr(self, key) <= 0:
                raise ValueError(f"stage {self.name!r}: {key} is {getattr(self, key)}; expected more than 0")


@dataclass(frozen=True)
class LoraSettings:
    """rank and alpha of LoRA on every linear layer of the language model's blocks."""

    rank: int = 16
    alpha: int = 32

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1:
            raise ValueError(f"LoRA rank {self.rank}, alpha {self.alpha}: expected at least 1")


class MasterAdamW:
    """AdamW on float32 copies of bfloat16 weights: small steps are not lost to rounding."""

    def __init__(self, groups: list[tuple[list[torch.nn.Parameter], float]]):
        self.live = [p for params, _ in groups for p in params]
        self.masters = [p.detach().float().clone() for p in self.live]
        start, made = 0, []
        for params, rate in groups:
            made.append({"params": self.masters[start : start + len(params)], "lr": rate, "peak": rate})
            start += len(params)
        self.inner = torch.optim.AdamW(made, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, factor: float, clip: float = 1.0) -> float:
        """Clip, step at factor × the peak rates, write back. Returns the gradient's length."""
        for master, live in zip(self.masters, self.live, strict=True):
            master.grad = None if live.grad is None else live.grad.float()
            live.grad = None
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters, clip))
        for group in self.inner.param_groups:
            group["lr"] = group["peak"] * factor
        self.inner.step()
        with torch.no_grad():
            for master, live in zip(self.masters, self.live, strict=True):
                live.copy_(master)
        return norm


@dataclass
class Row:
    """One image conversation as numbers: embeddings are made in `Trainer.loss`."""

    suffixes: list[tuple[int, ...]]
    boxes: torch.Tensor
    targets: list[list[int]]
    depths: list[float | None]


class Trainer:
    """Trains one model on one set. folder: where checkpoints and the log go.

    lora: settings of new LoRA weights, or those of an adapter to go on from (BadModelError where they do not fit).
    workers: of `prepared`.
    """

    def __init__(
        self,
        model: LoadedModel,
        data: TrainingSet,
        lora: LoraSettings | Lora,
        folder: Path,
        seed: int,
        compiled: bool = False,
        grounding_head: GroundingHead | None = None,
        world: DistributedContext | None = None,
        workers: int = 0,
    ):
        self.model, self.data, self.folder, self.seed, self.workers = model, data, folder, seed, workers
        self.grounding_head = grounding_head
        self.world = world or DistributedContext("cpu")
        useful = [i for i, s in enumerate(data.samples) if s.objects]
        self.measured = [i for i in useful if any(o.depth is not None for o in data.samples[i].objects)]
        self.photos = [i for i in useful if all(o.depth is None for o in data.samples[i].objects)]
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        self.dtype = choose_dtype("auto", self.world.device)
        llava = model.llava
        self.words = llava.get_input_embeddings().weight.detach().float().cpu()
        llava.requires_grad_(False)
        llava.to(self.world.device, self.dtype)
        layers = list(lora.targets) if isinstance(lora, Lora) else LORA_LAYERS
        stabilised = isinstance(lora, Lora) and lora.rank_stabilised
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=layers, use_rslora=stabilised)
        # plain attention fuses better than the library's kernels on rows this short, and its backward pass is faster
        llava.model.language_model.set_attn_implementation("eager")
        self.llm = get_peft_model(llava.model.language_model, config, autocast_adapter_dtype=False)
        if isinstance(lora, Lora):
            lora.put(self.llm, "to go on from")
        if compiled:
            for layer in self.llm.base_model.model.layers:
                layer.forward = torch.compile(layer.forward, dynamic=False)
        self.projector = llava.model.multi_modal_projector.requires_grad_(True)
        self.lora = [p for p in self.llm.parameters() if p.requires_grad]
        self.end = model.prompter.tokenizer.eos_token_id
        self.digits = torch.tensor(model.prompter.digits, device=self.world.device)

    # ---------------------------------------------------------------- rows
    def rows(self, stage: StageConfig, step: int) -> list[tuple[int, Row]]:
        """A step's images, each with its row; drawn from (seed, stage, step) alone: a resumed run sees what an unbroken
        one would.
        """
        rng = random.Random(self.world.seed(f"{self.seed}/{stage.name}/{step}"))
        pools = [self.photos or self.measured, self.measured or self.photos]
        picked = [rng.choice(pools[rng.random() >= stage.photo_share]) for _ in range(stage.batch)]
        return [(i, self.row(i, stage, rng)) for i in picked]

    def row(self, index: int, stage: StageConfig, rng: random.Random) -> Row:
        """The turns of one image as a row; reasoning turns come first in line for the room there is."""
        sample: Sample = self.data.samples[index]
        point = None
        if self.grounding_head is not None:
            features, colours = self.data[index], self.data.patch_colours(index)
            point = pointing(
                self.grounding_head, self.words, self.model, torch.from_numpy(features), torch.from_numpy(colours)
            )
        said = turns(sample.objects, sample.absent, stage.recipe, rng, point=point)
        said.sort(key=lambda turn: turn.kind == "perceive")
        room = stage.row_tokens - self.model.prompter.prefix_length
        suffixes, targets, depths, boxes = [], [], [], []
        for turn in said:
            ids, target = self._turn(turn)
            if len(ids) > room:
                continue
            room -= len(ids)
            suffixes.append(tuple(ids))
            targets.append(target)
            depths.append(turn.depth)
            boxes += [b.xyxy for b in turn.boxes]
        return Row(suffixes, torch.tensor(boxes).reshape(-1, 4), targets, depths)

    def _turn(self, turn: Turn) -> tuple[list[int], list[int]]:
        """(ids of question, lead and answer; target of each id's next token, IGNORE where none)."""
        prompter = self.model.prompter
        start = list(prompter.question(turn.question, turn.boxes, turn.lead).ids)
        if turn.kind in ("reason", "direct"):
            answer = [prompter.choices[turn.answer.strip() == "B"]]
        else:
            answer = prompter.plain_ids(turn.answer)
        if turn.kind != "present":  # a number follows that nobody measured
            answer = [*answer, self.end]
        ids = start + answer[:-1]
        return ids, [IGNORE] * (len(start) - 1) + answer

    # ---------------------------------------------------------------- one step
    def loss(self, chosen: list[tuple[int, Row]], stage: StageConfig) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean loss of a batch of (index of the image's features, its row)."""
        with self.world.device:  # where new tensors are made
            return self._loss(chosen, stage)

    def _loss(self, chosen: list[tuple[int, Row]], stage: StageConfig) -> tuple[torch.Tensor, dict[str, float]]:
        device = self.world.device
        prompter, llava = self.model.prompter, self.model.llava
        table = llava.get_input_embeddings()
        rows, positions, masks, wheres, targets, depths = [], [], [], [], [], []
        for index, row in chosen:
            features = torch.from_numpy(self.data[index]).to(device, self.dtype)
            image = self.projector(features)
            prefix = [table(torch.tensor(prompter.before_image)), image, table(torch.tensor(prompter.after_image))]
            flat = torch.tensor([i for s in row.suffixes for i in s])
            words = table(flat)
            if len(row.boxes):
                places = (flat == prompter.image_token_id).nonzero()[:, 0]
                pooled = region_tokens(features.float(), row.boxes.to(device), self.model.spatial_merge_size).to(
                    self.dtype
                )
                words = words.index_put((places,), self.projector(pooled))
            embeddings = torch.cat([*prefix, words])
            length = prompter.prefix_length
            position, allowed = pack([(len(s), 0) for s in row.suffixes])
            n = len(embeddings)
            mask = torch.zeros(n, n, dtype=torch.bool)
            mask[:length, :length] = torch.ones(length, length).tril().bool()
            mask[length:, :length] = True
            mask[length:, length:] = torch.from_numpy(allowed).to(device)
            rows.append(embeddings)
            positions.append(torch.cat([torch.arange(length), torch.from_numpy(position).to(device) + length]))
            masks.append(mask)
            at = length
            for suffix, target, depth in zip(row.suffixes, row.targets, row.depths, strict=True):
                told = [i for i, t in enumerate(target) if t != IGNORE]
                wheres += [(len(rows) - 1, at + i) for i in told]
                targets += [target[i] for i in told]
                # an answer '0.dd' ends: tenths, hundredths, end of turn
                order = [None] * (len(told) - 3) + ["tenths", "hundredths", None] if depth is not None else []
                depths += [(o, depth) for o in order] or [(None, None)] * len(told)
                at += len(suffix)
        longest = stage.row_tokens
        batch = torch.stack([F.pad(r, (0, 0, 0, longest - len(r))) for r in rows])
        position_ids = torch.stack([F.pad(p, (0, longest - len(p))) for p in positions])
        bias = torch.full((len(rows), 1, longest, longest), torch.finfo(self.dtype).min, dtype=self.dtype)
        for i, mask in enumerate(masks):
            bias[i, 0, : len(mask), : len(mask)].masked_fill_(mask, 0)
            bias[i, 0, len(mask) :, 0] = 0  # padding looks at the first token, so that no row is empty
        hidden = self.llm(
            inputs_embeds=batch, attention_mask=bias, position_ids=position_ids, use_cache=False
        ).last_hidden_state
        rows_at, cols_at = (torch.tensor(v) for v in zip(*wheres, strict=True))
        logits = llava.lm_head(hidden[rows_at, cols_at]).float()
        return self._answer_loss(logits, torch.tensor(targets), depths, stage.depth_spread)

    def _answer_loss(
        self, logits: torch.Tensor, targets: torch.Tensor, depths: list[Any], spread: float
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy; digits of a depth have soft targets, so that near misses cost less than far ones, and the
        depth that the tenths amount to should be near the truth too.
        """
        losses = F.cross_entropy(logits, targets, reduction="none")
        weight = torch.full_like(losses, 0.25)
        tenths = torch.tensor([i for i, (o, _) in enumerate(depths) if o == "tenths"])
        shown: dict[str, float] = {}
        said = (targets[:, None] == torch.tensor(self.model.prompter.choices)).any(-1)
        weight[said] = 1.0
        if len(tenths):
            depth = torch.tensor([depths[i][1] for i in tenths])
            log = logits[tenths].log_softmax(-1)[:, self.digits]
            soft = soft_digits(depth.clamp(0, 0.99), spread)
            guess = logits[tenths][:, self.digits].softmax(-1) @ (torch.arange(10) * 0.1 + 0.05)
            losses = losses.index_put((tenths,), -(soft * log).sum(-1) + (guess - depth).abs())
            weight[tenths] = 1.0
            hundredths = tenths + 1
            first = (targets[tenths][:, None] == self.digits).int().argmax(-1).float() * 0.1
            within = ((depth - first) * 10).clamp(0, 0.99)  # where inside the tenth
            soft = soft_digits(within, max(spread * 10, 0.1))
            log = logits[hundredths].log_softmax(-1)[:, self.digits]
            losses = losses.index_put((hundredths,), -(soft * log).sum(-1))
            shown["mae"] = (guess - depth).abs().mean().item()
        with torch.no_grad():
            if said.any():
                two = logits[said][:, self.model.prompter.choices].argmax(-1)
                truth = (targets[said] == self.model.prompter.choices[1]).long()
                shown["choice"] = (two == truth).float().mean().item()
        total = (losses * weight).sum() / weight.sum()
        shown["loss"] = total.item()
        return total, shown

    # ---------------------------------------------------------------- a stage
    def run(self, stage: StageConfig, log: Any, minutes_between_checkpoints: float = 4.0) -> None:
        """Train one stage, or what is left of it."""
        done_mark = self.folder / f"{stage.name}.done"
        if done_mark.exists():
            return
        projector = list(self.projector.parameters())
        optimiser = MasterAdamW([(self.lora, stage.lora_rate), (projector, stage.projector_rate)])
        first = self._resume(stage.name, optimiser)
        steps = math.ceil(stage.images / stage.batch)
        saved = time.perf_counter()
        smooth: dict[str, float] = {}
        self.llm.train()
        coming = prepared(partial(self.rows, stage), range(first, steps), self.workers)
        bar = tqdm(coming, initial=first, total=steps, desc=stage.name, unit="step")
        for step, chosen in enumerate(bar, first):
            warm = min(1.0, (step + 1) / max(1, stage.warmup * steps))
            factor = warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            loss, shown = self.loss(chosen, stage)
            loss.backward()
            self.world.average(optimiser.live)
            optimiser.step(factor)
            for key, value in shown.items():
                smooth[key] = value if key not in smooth else 0.95 * smooth[key] + 0.05 * value
            bar.set_postfix({k: f"{v:.3f}" for k, v in smooth.items()})
            if step % 5 == 0 and self.world.writes:
                log(stage=stage.name, step=step, **shown)
            if time.perf_counter() - saved > 60 * minutes_between_checkpoints:
                self._checkpoint(stage.name, step + 1, optimiser)
                saved = time.perf_counter()
        self._checkpoint(stage.name, steps, optimiser)
        if self.world.writes:
            done_mark.write_text(json.dumps({"steps": steps}))
        self.world.wait()

    def _checkpoint(self, name: str, step: int, optimiser: MasterAdamW) -> None:
        if not self.world.writes:
            return
        tensors = {f"master.{i}": m for i, m in enumerate(optimiser.masters)}
        for i, master in enumerate(optimiser.masters):
            state = optimiser.inner.state.get(master, {})
            tensors |= {f"{k}.{i}": state[k].clone() for k in ("exp_avg", "exp_avg_sq", "step") if k in state}
        path = self.folder / f"{name}.safetensors"
        save_file(tensors, path.with_suffix(".part"), metadata={"step": str(step)})
        path.with_suffix(".part").replace(path)

    def _resume(self, name: str, optimiser: MasterAdamW) -> int:
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return 0
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
        self._put(load_file(path), optimiser)
        return step

    def _put(self, tensors: dict[str, torch.Tensor], optimiser: MasterAdamW) -> None:
        with torch.no_grad():
            for i, (master, live) in enumerate(zip(optimiser.masters, optimiser.live, strict=True)):
                master.copy_(tensors[f"master.{i}"])
                live.copy_(master)
                if f"exp_avg.{i}" in tensors:
                    optimiser.inner.state[master] = {k: tensors[f"{k}.{i}"] for k in ("step", "exp_avg", "exp_avg_sq")}

    def restore(self, name: str) -> None:
        """Put the weights that a finished stage ended with into the model."""
        tensors = load_file(self.folder / f"{name}.safetensors")
        with torch.no_grad():
            for i, live in enumerate([*self.lora, *self.projector.parameters()]):
                live.copy_(tensors[f"master.{i}"])
