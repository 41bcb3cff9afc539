"""Two-stage training of projector and LoRA on cached features.

Promises: stopped at any time it goes on from its last checkpoint; the result is an adapter folder
(`proxqa_core.model.adapter`). Every turn of an image branches off the same prefix with the very mask and positions used
for answering, so what is trained is what is asked.

Memory-frugal on purpose: base and LoRA in bfloat16 where the hardware multiplies it, with float32 master weights, and
logits only where an answer is supervised.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, combinations
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F

from proxqa_core.files import write_text
from proxqa_core.language.templates import BoxForm
from proxqa_core.llm.branching import pack
from proxqa_core.model.adapter import Lora
from proxqa_core.model.loading import LoadedModel, choose_dtype
from proxqa_core.vision.box_embedding import BoxEmbedding
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_core.vision.regions import region_tokens
from proxqa_training.checkpoints import load_checkpoint, load_weights, save_checkpoint
from proxqa_training.depth_digits import expected_depth, soft_digits
from proxqa_training.distributed import DistributedContext
from proxqa_training.instructions.build import IN_BOTH_FORMS, Turn, build_turns
from proxqa_training.interrupt import stop_between_steps
from proxqa_training.logs import RunningMean, progress
from proxqa_training.prefetch import prefetch
from proxqa_training.schedules import cosine_with_warmup
from proxqa_training.stages.config import LoraSettings, StageConfig
from proxqa_training.stages.data import FeatureDataset, Sample, grounder

log = logging.getLogger(__name__)

LORA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IGNORE = -100
"""Target of a token that is not supervised."""
TENTHS, HUNDREDTHS, ORDER = "tenths", "hundredths", "order"
MIN_ORDER_GAP = 0.04
"""Least difference of distances, as share of the farther, of two things whose order is supervised."""
PLAIN_WEIGHT = 0.25
"""Weight of an answer's tokens other than the tenths of a depth and the letter of a choice, which have 1."""
LR_FLOOR = 0.03
"""Share of the peak learning rates that is left at the end."""
LOG_EVERY_STEPS = 5
CHECKPOINT_MINUTES = 4.0


class MasterAdamW:
    """AdamW on float32 copies of bfloat16 weights: small steps are not lost to rounding.

    Attributes:
        parameters: The weights in training.
        masters: Their float32 copies.
        inner: The optimizer of the copies.

    Args:
        groups: Parameters and their peak learning rate, each.
    """

    def __init__(self, groups: list[tuple[list[torch.nn.Parameter], float]]):
        self.parameters = [p for parameters, _ in groups for p in parameters]
        self.masters = [p.detach().float().clone() for p in self.parameters]
        start, made = 0, []
        for parameters, lr in groups:
            made.append({"params": self.masters[start : start + len(parameters)], "lr": lr, "peak_lr": lr})
            start += len(parameters)
        self.inner = torch.optim.AdamW(made, betas=(0.9, 0.98), weight_decay=0.0)

    def gather(self) -> None:
        """Add the weights' gradients to those of their copies, where small ones are not lost to rounding either."""
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            if parameter.grad is not None:
                master.grad = parameter.grad.float() if master.grad is None else master.grad + parameter.grad
            parameter.grad = None

    def step(self, lr_factor: float, max_norm: float = 1.0) -> float:
        """Gather and clip the gradients, and step.

        Args:
            lr_factor: On the peak learning rates.
            max_norm: To which the gradient is clipped.

        Returns:
            The gradient's norm before clipping.
        """
        self.gather()
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters, max_norm))
        for group in self.inner.param_groups:
            group["lr"] = group["peak_lr"] * lr_factor
        self.inner.step()
        self.inner.zero_grad()
        self.write_back()
        return norm

    def write_back(self) -> None:
        """Put the copies' values into the weights."""
        with torch.no_grad():
            for master, parameter in zip(self.masters, self.parameters, strict=True):
                parameter.copy_(master)


@dataclass
class PackedSample:
    """One image conversation as numbers; embeddings are made in `Trainer.loss`.

    Attributes:
        suffixes: Token ids of each turn.
        boxes: Of the turns' region tokens, in order, [n, 4] in [0, 1].
        targets: The next token of each token of each turn; IGNORE where it is not supervised.
        depths: The relative depth that a turn's answer says; None where it does not say just one.
        distances: Of the one thing that a turn asks for; None where it is not known or not asked for.
    """

    suffixes: list[tuple[int, ...]]
    boxes: torch.Tensor
    targets: list[list[int]]
    depths: list[float | None]
    distances: list[float | None]


Batch = list[tuple[int, PackedSample]]
"""Of each image of a step: the index of its features, and its conversation."""


@dataclass
class _Supervised:
    """The t tokens of a batch that are supervised.

    Attributes:
        where: (sequence, position) of each.
        targets: Its next token.
        digits: TENTHS or HUNDREDTHS where its next token is that digit of a depth; ORDER where it would be the tenths
            of one that is not known, whose target is nobody's; else None.
        depths: That depth.
        distances: Of the thing whose depth it is.
    """

    where: list[tuple[int, int]] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    digits: list[str | None] = field(default_factory=list)
    depths: list[float | None] = field(default_factory=list)
    distances: list[float | None] = field(default_factory=list)

    def add(self, sequence: int, start: int, sample: PackedSample) -> None:
        """Add those of a sample whose turns begin at position `start` of a sequence."""
        turns = zip(sample.suffixes, sample.targets, sample.depths, sample.distances, strict=True)
        for suffix, target, depth, distance in turns:
            supervised = [i for i, t in enumerate(target) if t != IGNORE]
            self.where += [(sequence, start + i) for i in supervised]
            self.targets += [target[i] for i in supervised]
            digits: list[str | None] = [None] * len(supervised)
            if depth is not None:  # an answer '0.dd' ends: tenths, hundredths, end of turn
                digits[-3:-1] = [TENTHS, HUNDREDTHS]
            elif distance is not None:
                digits[-1] = ORDER
            self.digits += digits
            self.depths += [depth] * len(supervised)
            self.distances += [distance] * len(supervised)
            start += len(suffix)

    def rows(self, digit: str) -> list[int]:
        """Which of them are that digit of a depth."""
        return [i for i, found in enumerate(self.digits) if found == digit]

    def pairs(self) -> list[tuple[int, int]]:
        """(near, far): the tenths of things of one image whose distances can be told apart."""
        of_image: dict[int, list[int]] = {}
        for i, (digit, distance) in enumerate(zip(self.digits, self.distances, strict=True)):
            if digit in (TENTHS, ORDER) and distance is not None:
                of_image.setdefault(self.where[i][0], []).append(i)
        found = []
        for i, j in chain.from_iterable(combinations(rows, 2) for rows in of_image.values()):
            a, b = self.distances[i] or 0.0, self.distances[j] or 0.0
            if abs(a - b) >= MIN_ORDER_GAP * max(a, b):
                found.append((i, j) if a < b else (j, i))
        return found


@dataclass(frozen=True)
class Totals:
    """What the loss and the figures of a step are shares of, however many parts it is computed in.

    Attributes:
        weight: Sum of the weights of its supervised tokens.
        depths, choices: How many answers are a depth, and a choice.
        pairs: Of things whose order is supervised.
    """

    weight: float
    depths: int
    choices: int
    pairs: int


class Trainer:
    """Trains the projector and the LoRA weights of one model on one dataset.

    Args:
        model: The default model; changed in place.
        data: Features of its vision tower.
        lora: Settings of new LoRA weights, or those of an adapter to go on from.
        folder: Where checkpoints go.
        seed: Of everything that is drawn.
        torch_compile: Whether the language model's blocks are compiled.
        grounding_head: Finds what is asked for by name, as in the engine; None = nothing does.
        box_embedding: Of region tokens, trained too; None = there is none.
        box_form: How boxes are told.
        context: This process among those of the run (default: alone, on the CPU).
        num_workers: Processes that prepare conversations ahead.
        dtype: 'auto', 'float32' or 'bfloat16', of the model; master weights are float32.

    Raises:
        BadModelError: The LoRA weights to go on from do not fit the model.
    """

    def __init__(
        self,
        model: LoadedModel,
        data: FeatureDataset,
        lora: LoraSettings | Lora,
        folder: Path,
        seed: int,
        torch_compile: bool = False,
        grounding_head: GroundingHead | None = None,
        context: DistributedContext | None = None,
        num_workers: int = 0,
        dtype: str = "auto",
        box_embedding: BoxEmbedding | None = None,
        box_form: BoxForm = IN_BOTH_FORMS,
    ):
        self.model, self.data, self.folder, self.seed, self.num_workers = model, data, folder, seed, num_workers
        self.grounding_head, self.box_embedding = grounding_head, box_embedding
        self.box_form = box_form
        self.context = context or DistributedContext("cpu")
        useful = [i for i, s in enumerate(data.samples) if s.objects]
        self.measured = [i for i in useful if any(o.distance is not None for o in data.samples[i].objects)]
        self.photos = [i for i in useful if all(o.distance is None for o in data.samples[i].objects)]
        self.measured_photos = [i for i in self.measured if not data.samples[i].rendered]
        self.renders = [i for i in self.measured if data.samples[i].rendered]
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        self.dtype = choose_dtype(dtype, self.context.device)
        self.words = model.llava.get_input_embeddings().weight.detach().float().cpu()
        self.llm = self._add_lora(lora, torch_compile)
        self.projector = model.llava.model.multi_modal_projector.requires_grad_(True)
        self.beside = list(self.projector.parameters())
        if box_embedding is not None:  # small enough to stay in float32
            self.beside += list(box_embedding.to(self.context.device).requires_grad_(True).parameters())
        self.lora = [p for p in self.llm.parameters() if p.requires_grad]
        self.end = model.prompter.tokenizer.eos_token_id
        self.digits = torch.tensor(model.prompter.digits, device=self.context.device)

    def _add_lora(self, lora: LoraSettings | Lora, torch_compile: bool) -> torch.nn.Module:
        """Freeze the model and wrap its language model with LoRA weights."""
        llava = self.model.llava
        llava.requires_grad_(False)
        llava.to(self.context.device, self.dtype)
        layers = list(lora.targets) if isinstance(lora, Lora) else LORA_LAYERS
        stabilised = isinstance(lora, Lora) and lora.rank_stabilised
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=layers, use_rslora=stabilised)
        # plain attention fuses better than the library's kernels on sequences this short, and goes back faster
        llava.model.language_model.set_attn_implementation("eager")
        llm = get_peft_model(llava.model.language_model, config, autocast_adapter_dtype=False)
        if isinstance(lora, Lora):
            lora.load_into(llm, "to go on from")
        if torch_compile:
            for layer in llm.base_model.model.layers:
                layer.forward = torch.compile(layer.forward, dynamic=False)
        return llm

    # ---------------------------------------------------------------- samples
    def batch(self, stage: StageConfig, step: int) -> Batch:
        """A step's images, each with its conversation.

        Drawn from (seed, stage, step) alone: a resumed run sees what an unbroken one would.
        """
        rng = random.Random(self.context.rank_seed(f"{self.seed}/{stage.name}/{step}"))
        picked = [rng.choice(self._pool(stage, rng)) for _ in range(stage.batch_size)]
        return [(i, self.pack_sample(i, stage, rng)) for i in picked]

    def _pool(self, stage: StageConfig, rng: random.Random) -> list[int]:
        """The images of which the next one is drawn."""
        if rng.random() < stage.real_fraction and self.photos:
            return self.photos
        share = stage.measured_photo_fraction
        if share is not None and self.measured_photos and self.renders:
            return self.measured_photos if rng.random() < share else self.renders
        return self.measured or self.photos

    def pack_sample(self, index: int, stage: StageConfig, rng: random.Random) -> PackedSample:
        """Draw the turns of one image; reasoning turns come first where there is not room for all.

        Args:
            index: Of the sample.
            stage: Its recipe and its length of sequences.
            rng: Draws the turns.
        """
        sample: Sample = self.data.samples[index]
        ground = None
        if self.grounding_head is not None:
            features, colours = torch.from_numpy(self.data[index]), torch.from_numpy(self.data.patch_colours(index))
            ground = grounder(self.grounding_head, self.words, self.model, features, colours)
        turns = build_turns(sample.objects, sample.absent, stage.recipe, rng, self.box_form, ground)
        turns.sort(key=lambda turn: turn.kind in ("perceive", "ordered"))
        room = stage.max_seq_len - self.model.prompter.prefix_length
        suffixes, targets, depths, distances, boxes = [], [], [], [], []
        for turn in turns:
            ids, target = self._tokens(turn)
            if len(ids) > room:
                continue
            room -= len(ids)
            suffixes.append(tuple(ids))
            targets.append(target)
            depths.append(turn.depth)
            distances.append(turn.distance)
            boxes += [b.xyxy for b in turn.boxes]
        return PackedSample(suffixes, torch.tensor(boxes).reshape(-1, 4), targets, depths, distances)

    def _tokens(self, turn: Turn) -> tuple[list[int], list[int]]:
        """Ids of question, lead and answer; and the target of each id's next token, IGNORE where it has none."""
        prompter = self.model.prompter
        start = list(prompter.question(turn.question, turn.boxes, turn.lead).ids)
        if turn.kind in ("reason", "direct"):
            answer = [prompter.choices[turn.answer.strip() == "B"]]
        else:
            answer = prompter.plain_ids(turn.answer)
        if turn.kind == "ordered":  # nobody knows the digit that follows; its place is looked at all the same
            answer = [*answer, prompter.digits[0]]
        elif turn.kind != "present":  # a number follows that nobody measured
            answer = [*answer, self.end]
        ids = start + answer[:-1]
        return ids, [IGNORE] * (len(start) - 1) + answer

    # ---------------------------------------------------------------- one step
    def backward(self, batch: Batch, stage: StageConfig, optimizer: MasterAdamW) -> dict[str, float]:
        """The gradients of a step, in as many parts as the stage wants; they are those of the step as one.

        Args:
            batch: See `loss`.
            stage: How much of it is computed at once, too.
            optimizer: Gathers the gradients.

        Returns:
            The figures for the log.
        """
        whole, at_once = self.totals(batch), stage.per_device_batch_size or len(batch)
        figures: Counter[str] = Counter()
        for start in range(0, len(batch), at_once):
            loss, shares = self.loss(batch[start : start + at_once], stage, whole)
            loss.backward()
            optimizer.gather()
            figures.update(shares)
        return dict(figures)

    def totals(self, batch: Batch) -> Totals:
        """What the losses of the parts of a batch are shares of."""
        supervised = _Supervised()
        for number, (_, sample) in enumerate(batch):
            supervised.add(number, 0, sample)
        weight, choices = self._weights(supervised)
        return Totals(weight.sum().item(), len(supervised.rows(TENTHS)), int(choices.sum()), len(supervised.pairs()))

    def loss(
        self, batch: Batch, stage: StageConfig, whole: Totals | None = None
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a batch.

        Args:
            batch: Index of each image's features, and its conversation.
            stage: Its length of sequences and its soft targets.
            whole: Of the step that the batch is a part of; None = it is all of it.

        Returns:
            Its share of the step's mean loss, and of the figures for the log: the parts add up to the whole.
        """
        with self.context.device:  # where new tensors are made
            return self._loss(batch, stage, whole or self.totals(batch))

    def _loss(self, batch: Batch, stage: StageConfig, whole: Totals) -> tuple[torch.Tensor, dict[str, float]]:
        prefix, longest = self.model.prompter.prefix_length, stage.max_seq_len
        # 1. each sequence of l tokens by itself: embeddings [l, hidden], positions [l], mask [l, l], what is supervised
        embeddings, positions, masks, supervised = [], [], [], _Supervised()
        for number, (index, sample) in enumerate(batch):
            embeddings.append(self._embed(index, sample))
            position, mask = self._branches(sample)
            positions.append(position)
            masks.append(mask)
            supervised.add(number, prefix, sample)
        # 2. padded to one length: [n, longest, hidden], [n, longest], [n, 1, longest, longest]
        inputs = torch.stack([F.pad(e, (0, 0, 0, longest - len(e))) for e in embeddings])
        position_ids = torch.stack([F.pad(p, (0, longest - len(p))) for p in positions])
        bias = torch.full((len(masks), 1, longest, longest), torch.finfo(self.dtype).min, dtype=self.dtype)
        for i, mask in enumerate(masks):
            bias[i, 0, : len(mask), : len(mask)].masked_fill_(mask, 0)
            bias[i, 0, len(mask) :, 0] = 0  # padding looks at the first token, so that no row is empty
        # 3. hidden states [n, longest, hidden] → logits [t, vocabulary] of what is supervised
        hidden = self.llm(
            inputs_embeds=inputs, attention_mask=bias, position_ids=position_ids, use_cache=False
        ).last_hidden_state
        where = torch.tensor(supervised.where, dtype=torch.long).reshape(-1, 2)
        logits = self.model.llava.lm_head(hidden[where[:, 0], where[:, 1]]).float()
        # 4. their losses
        return self._answer_loss(logits, supervised, stage, whole)

    def _embed(self, index: int, sample: PackedSample) -> torch.Tensor:
        """Embeddings [tokens, hidden] of a conversation: what stands before the image, image, after it, the turns."""
        prompter, table, device = self.model.prompter, self.model.llava.get_input_embeddings(), self.context.device
        features = torch.from_numpy(self.data[index]).to(device, self.dtype)
        image = self.projector(features)
        before, after = (torch.tensor(v, dtype=torch.long) for v in (prompter.before_image, prompter.after_image))
        prefix = [table(before), image, table(after)]
        ids = torch.tensor([i for s in sample.suffixes for i in s], dtype=torch.long)
        words = table(ids)
        if len(sample.boxes):  # region tokens stand where the prompt has an image token
            places = (ids == prompter.image_token_id).nonzero()[:, 0]
            pooled = region_tokens(features.float(), sample.boxes.to(device), self.model.spatial_merge_size)
            regions = self.projector(pooled.to(self.dtype))
            if self.box_embedding is not None:
                regions = regions + self.box_embedding(sample.boxes.to(device)).to(self.dtype)
            words = words.index_put((places,), regions)
        return torch.cat([*prefix, words])

    def _branches(self, sample: PackedSample) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [tokens] and mask [tokens, tokens], True = seen: a turn sees the prefix and itself."""
        device, length = self.context.device, self.model.prompter.prefix_length
        position, allowed = pack([(len(s), 0) for s in sample.suffixes])
        n = length + len(position)
        mask = torch.zeros(n, n, dtype=torch.bool)
        mask[:length, :length] = torch.ones(length, length).tril().bool()
        mask[length:, :length] = True
        mask[length:, length:] = torch.from_numpy(allowed).to(device)
        return torch.cat([torch.arange(length), torch.from_numpy(position).to(device) + length]), mask

    def _weights(self, supervised: _Supervised) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [t] of each supervised token, and whether it is a choice [t]."""
        targets = torch.tensor(supervised.targets, dtype=torch.long)
        is_choice = (targets[:, None] == torch.tensor(self.model.prompter.choices)).any(-1)
        weight = torch.full((len(targets),), PLAIN_WEIGHT)
        weight[is_choice] = 1.0
        weight[supervised.rows(TENTHS)] = 1.0
        weight[supervised.rows(ORDER)] = 0.0
        return weight, is_choice

    def _answer_loss(
        self, logits: torch.Tensor, supervised: _Supervised, stage: StageConfig, whole: Totals
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy of the answers, with soft targets for the digits of a depth, so that near misses cost less.

        The depth that the tenths amount to should be near the truth too, and those of an image in the right order.
        logits: [t, vocabulary].
        """
        targets = torch.tensor(supervised.targets, dtype=torch.long)
        # 1. plain cross-entropy and weights, [t] each
        losses = F.cross_entropy(logits, targets, reduction="none")
        weight, is_choice = self._weights(supervised)
        # 2. the d answers that are a depth
        figures: dict[str, float] = {}
        tenths = torch.tensor(supervised.rows(TENTHS), dtype=torch.long)
        if len(tenths):
            depth = torch.tensor([supervised.depths[i] for i in tenths.tolist()])
            soft, error = self._depth_losses(logits, targets, tenths, depth, stage.depth_label_std)
            losses = losses.index_put((torch.cat([tenths, tenths + 1]),), soft)
            figures["mae"] = error / whole.depths
        # 3. for the log: how many choices are right
        if is_choice.any():
            figures["choice"] = self._right_choices(logits[is_choice], targets[is_choice]) / whole.choices
        # 4. a step of which nothing is asked has no loss; the order of the things of an image
        total = (losses * weight).sum() / max(whole.weight, PLAIN_WEIGHT)
        if stage.order_weight and (pairs := supervised.pairs()):
            order, right = self._order_loss(logits, pairs, stage.order_scale)
            total = total + stage.order_weight * order / whole.pairs
            figures["order"] = right / whole.pairs
        figures["loss"] = total.item()
        return total, figures

    @torch.no_grad()
    def _right_choices(self, logits: torch.Tensor, targets: torch.Tensor) -> float:
        """How many of c choices are right. logits: [c, vocabulary]; targets: [c]."""
        choices = self.model.prompter.choices
        return (logits[:, choices].argmax(-1) == (targets == choices[1]).long()).float().sum().item()

    def _order_loss(
        self, logits: torch.Tensor, pairs: list[tuple[int, int]], scale: float
    ) -> tuple[torch.Tensor, float]:
        """The sum of the logistic losses of pairs of things by their depths, and how many are in the right order.

        logits: [t, vocabulary]; pairs: (near, far), which of the t; scale: of the difference of depths.
        """
        near, far = torch.tensor(pairs).T
        depth = expected_depth(logits[torch.cat([near, far])][:, self.digits]).reshape(2, -1)
        apart = depth[1] - depth[0]  # of every pair, > 0 = in the right order
        return F.softplus(-apart / scale).sum(), (apart > 0).float().sum().item()

    def _depth_losses(
        self, logits: torch.Tensor, targets: torch.Tensor, tenths: torch.Tensor, depth: torch.Tensor, std: float
    ) -> tuple[torch.Tensor, float]:
        """Losses [2 · d] of the tenths, then of the hundredths, of d depths; and the sum of the tenths' errors.

        logits: [t, vocabulary]; tenths: [d], which of the t; depth: [d], true.
        """
        # 1. tenths: cross-entropy with soft targets, [d], and the error of the depth they amount to
        log = logits[tenths].log_softmax(-1)[:, self.digits]
        error = (expected_depth(logits[tenths][:, self.digits]) - depth).abs()
        first = -(soft_digits(depth.clamp(0, 0.99), std) * log).sum(-1) + error
        # 2. hundredths: the same within the true tenth
        tenth = (targets[tenths][:, None] == self.digits).int().argmax(-1).float() * 0.1
        within = ((depth - tenth) * 10).clamp(0, 0.99)
        log = logits[tenths + 1].log_softmax(-1)[:, self.digits]
        second = -(soft_digits(within, max(std * 10, 0.1)) * log).sum(-1)
        return torch.cat([first, second]), error.sum().item()

    # ---------------------------------------------------------------- a stage
    def run(
        self,
        stage: StageConfig,
        metrics: Callable[..., None],
        minutes_between_checkpoints: float = CHECKPOINT_MINUTES,
    ) -> None:
        """Train one stage, or what is left of it.

        Args:
            stage: What shapes it.
            metrics: Called with `stage`, `step` and the figures of every fifth step, in the main process.
            minutes_between_checkpoints: 0 = after every step.

        Raises:
            KeyboardInterrupt: Ctrl-C; what is trained so far is saved first.
        """
        done_mark = self.folder / f"{stage.name}.done"
        if done_mark.exists():
            return
        optimizer = MasterAdamW([(self.lora, stage.lora_lr), (self.beside, stage.projector_lr)])
        first = load_checkpoint(self._checkpoint(stage.name), optimizer.inner)
        if first:
            log.info("stage %s: resumed at step %d", stage.name, first)
        optimizer.write_back()
        num_steps = math.ceil(stage.num_samples / stage.batch_size)
        saved, smooth = time.perf_counter(), RunningMean(0.95)
        self.llm.train()
        batches = prefetch(partial(self.batch, stage), range(first, num_steps), self.num_workers)
        bar = progress(batches, initial=first, total=num_steps, desc=stage.name, unit="step")
        with stop_between_steps(self.context.world_size == 1) as stop:
            for step, batch in enumerate(bar, first):
                figures = self.backward(batch, stage, optimizer)
                self.context.all_reduce_mean(optimizer.masters)
                optimizer.step(cosine_with_warmup(step, num_steps, stage.warmup_ratio, LR_FLOOR))
                smooth.update(figures)
                bar.set_postfix(smooth.as_text())
                if step % LOG_EVERY_STEPS == 0 and self.context.is_main_process:
                    metrics(stage=stage.name, step=step, **figures)
                if stop.is_set or time.perf_counter() - saved > 60 * minutes_between_checkpoints:
                    self._save(stage.name, step + 1, optimizer)
                    saved = time.perf_counter()
                if stop.is_set:
                    log.info("stage %s: saved after step %d; the same command goes on from there", stage.name, step + 1)
                    raise KeyboardInterrupt
        self._save(stage.name, num_steps, optimizer)
        if self.context.is_main_process:
            write_text(done_mark, json.dumps({"steps": num_steps}))
        self.context.barrier()

    def _checkpoint(self, stage: str) -> Path:
        return self.folder / f"{stage}.safetensors"

    def _save(self, stage: str, step: int, optimizer: MasterAdamW) -> None:
        if self.context.is_main_process:
            save_checkpoint(self._checkpoint(stage), step, optimizer.inner)

    def restore(self, stage: str) -> None:
        """Put the weights that a finished stage ended with into the model."""
        load_weights(self._checkpoint(stage), [*self.lora, *self.beside])
