"""`proxqa train perceive|reason`: one stage of any LLaVA, also the bundled one, by Hugging Face's Trainer and peft.

Promises: the same command goes on from the last whole checkpoint, however it was stopped, and ends with the same
adapter; what the folder of a run was made with is kept, and another command on it is refused. Several processes, as
`accelerate launch` or `torchrun` start them, train what one does with the same batch size. The adapter is a plain
folder of `peft` with a description for proxqa.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from proxqa_core.files import atomic_folder, sha256, write_text
from proxqa_core.model import adapter as adapters
from proxqa_core.model import peft_folder
from proxqa_core.model.adapter import Adapter, AdapterInfo
from proxqa_core.model.loading import DEFAULT, NO_ADAPTER, LoadedModel, load
from proxqa_core.vision.grounding_head import GroundingHead
from proxqa_training.llava.config import LlavaRecipe, LoraRecipe
from proxqa_training.llava.conversations import ConversationDataset, blank_sample, collate, length_grouped
from proxqa_training.stages.trainer import LORA_LAYERS

log = logging.getLogger(__name__)

STAGES = ("perceive", "reason")
RUN, ADAPTER, WHOLE = "run.json", "adapter", "whole"
"""In the folder of a run: what it was made with; the result; in a checkpoint: the mark that it was written whole."""
PROJECTOR = "multi_modal_projector"
LAYERS = rf"model\.language_model\..*\.({'|'.join(LORA_LAYERS)})"
"""The linear layers of the language model's blocks, not those of the same names in a vision tower."""
KEPT_CHECKPOINTS = 2
LOG_STEPS = 10


@dataclasses.dataclass(frozen=True)
class LlavaRun:
    """What is trained on what.

    Attributes:
        stage: One of STAGES.
        model: As `proxqa_core.model.loading.load` takes it.
        data: LLaVA json or jsonl.
        images: Folder that its images are in.
        out: Folder of the run.
        adapter: Folder to write; None = inside `out`.
        start: Adapter to go on from (stage 1's, for stage 2); None = new LoRA weights and the base's projector.
        steps: Steps in all; None = as many as the epochs have.
        base: What the adapter says it belongs to; None = the model, as it was named.
        num_workers: Processes that prepare data ahead.
        device: 'auto', 'cpu' or 'cuda'.
        dtype: Of the frozen weights: 'auto' (bfloat16 on a GPU), 'float32' or 'bfloat16'. What is trained is float32.

    Raises:
        ValueError: The stage is unknown.
    """

    stage: str
    model: str
    data: Path
    images: Path
    out: Path
    adapter: Path | None = None
    start: Path | None = None
    steps: int | None = None
    base: str | None = None
    num_workers: int = 0
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage is {self.stage!r}; expected one of {', '.join(STAGES)}")


def train_llava(run: LlavaRun, recipe: LlavaRecipe) -> dict[str, Any]:
    """Train one stage and write the adapter.

    Args:
        run: What on what.
        recipe: How.

    Returns:
        `adapter`, the folder written, and what it was made from; nothing in processes that do not write.

    Raises:
        ProxqaError: The model, the adapter or the data are at fault.
        ValueError: The folder holds another run, or the recipe does not fit the processes.
    """
    if not run.data.is_file():
        raise ValueError(f"{run.data}: is no file; expected conversations as LLaVA has them (.json, .jsonl)")
    run.out.mkdir(parents=True, exist_ok=True)
    arguments = _arguments(run, recipe)
    main = arguments.process_index == 0
    with arguments.main_process_first(desc="checking the run"):
        _check_run(run, recipe, arguments.world_size)
    with _whole_weights(arguments) as device:
        model = load(run.model, NO_ADAPTER, device=device, dtype="bfloat16" if arguments.bf16 else "float32")
    start = None if run.start is None else adapters.read(run.start, model.spec)
    set_seed(recipe.seed)  # of new LoRA weights; the Trainer comes after them
    lora = with_lora(model, recipe.lora, start)
    if _zero3(arguments):
        _spread(lora, arguments)
    # DeepSpeed's processes must go the same way: ZeRO 3 waits for the others in every layer, the tower's too, and
    # ZeRO 2 adds up gradients in the order in which they come, whatever they are of
    blank = None if arguments.deepspeed_plugin is None else blank_sample(model)
    data = ConversationDataset(run.data, run.images, run.stage, model, recipe.max_seq_len, run.out)
    steps = run.steps or max(1, math.ceil(recipe.num_epochs * len(data) / recipe.batch_size))
    arguments.max_steps = steps
    trainer = LlavaTrainer(
        model=lora,
        args=arguments,
        train_dataset=data,
        data_collator=partial(collate, padding=model.prompter.tokenizer.pad_token_id or 0, blank=blank),
        callbacks=[_Checks(run.out)],
    )
    trainer.recipe, trainer.num_samples = recipe, steps * recipe.batch_size
    trainer.remove_callback(PrinterCallback)  # stdout is for reports
    if main:
        log.info("%d samples %s, %d steps", len(data), dict(data.report.samples), steps)
        for line in data.report.left_out.lines():
            log.warning("left out: %s", line)
    with _one_line():
        done = trainer.train(resume_from_checkpoint=last_checkpoint(run.out, clean=main))
    report = _write(run, recipe, model, trainer, data, start.grounding_head if start else None, steps)
    return report and report | {"samples_per_second": done.metrics.get("train_samples_per_second")}


@contextlib.contextmanager
def _whole_weights(arguments: TrainingArguments) -> Iterator[str]:
    """Gives the device to load a model on: under ZeRO 3 the host, whole, to be cut by `_spread`.

    Else transformers cuts each weight while it reads it, even with `zero3_init_flag: false`, and no shape is left.
    """
    if not _zero3(arguments):
        yield str(arguments.device)
        return
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    try:
        yield "cpu"
    finally:
        arguments.deepspeed_plugin.set_deepspeed_weakref()


def _zero3(arguments: TrainingArguments) -> bool:
    """Whether DeepSpeed spreads the weights too."""
    plugin = arguments.deepspeed_plugin
    return plugin is not None and plugin.hf_ds_config.is_zero3()


def _spread(model: PeftModel, arguments: TrainingArguments) -> None:
    """Cut a model's weights over the processes, one weight after the other: no GPU ever holds all of them.

    What is trained is held in the type that is computed in; DeepSpeed steps a float32 copy of it.
    """
    import deepspeed

    for parameter in model.parameters():  # not its buffers: rotary frequencies stay float32
        parameter.data = parameter.data.to(torch.bfloat16 if arguments.bf16 else torch.float32)
    deepspeed.zero.Init(module=model, config_dict_or_path=arguments.deepspeed_plugin.dschf.config)
    for buffer in model.buffers():
        buffer.data = buffer.data.to(arguments.device)


def with_lora(model: LoadedModel, recipe: LoraRecipe, start: Adapter | None = None) -> PeftModel:
    """A model with LoRA on the layers of its language model and its projector to be trained, both in float32.

    Args:
        model: The base; is wrapped, not copied.
        recipe: Of new LoRA weights.
        start: Adapter to go on from, whose LoRA settings stay.
    """
    settings = start.lora if start is not None else None
    config = LoraConfig(
        r=settings.rank if settings else recipe.rank,
        lora_alpha=settings.alpha if settings else recipe.alpha,
        use_rslora=settings.rank_stabilised if settings else False,
        lora_dropout=recipe.dropout,
        target_modules=LAYERS,
        modules_to_save=[PROJECTOR],
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model.llava, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # small steps are not lost to rounding
    if start is not None:
        _load_start(wrapped, start)
    model.llava.config.use_cache = False
    return wrapped


def _load_start(wrapped: PeftModel, start: Adapter) -> None:
    """An adapter's weights into those that are trained. ValueError where it has others."""
    weights = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    new = {
        f"base_model.model.{adapters.PROJECTOR_PREFIX}modules_to_save.default.{k}": v
        for k, v in start.projector.items()
    }
    for key, value in start.lora.weights.items():
        layer = key.removeprefix("base_model.model.")
        new[f"base_model.model.{adapters.LANGUAGE_MODEL_PREFIX}{layer}".replace(".weight", ".default.weight")] = value
    lora = {name for name in weights if ".lora_" in name}
    if odd := sorted((new.keys() - weights.keys()) | (lora - new.keys())):
        raise ValueError(
            f"adapter {start.info.name!r} cannot be gone on from: {odd[0][:120]}; expected LoRA of every linear layer "
            "of the language model's blocks, as this command makes it"
        )
    with torch.no_grad():
        for name, value in new.items():
            weights[name].copy_(value)


class LlavaTrainer(Trainer):
    """Trainer with two learning rates, and an order of samples that depends on the seed and the step alone."""

    recipe: LlavaRecipe
    num_samples: int

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW: LoRA and the projector, each at its own rate; without decay, as in the recipe."""
        made: torch.optim.Optimizer | None = vars(self).get("optimizer")
        if made is None:
            trained = [(n, p) for n, p in (model or self.model).named_parameters() if p.requires_grad]
            projector = [p for n, p in trained if PROJECTOR in n]
            lora = [p for n, p in trained if PROJECTOR not in n]
            groups = [{"params": lora, "lr": self.recipe.lr}, {"params": projector, "lr": self.recipe.projector_lr}]
            made = self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        return made

    def _get_train_sampler(self, train_dataset: Any = None) -> _Order:
        return _Order(self.train_dataset.lengths, self.recipe, self.num_samples)

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        """The mean over supervised tokens; a batch without images takes part in the projector's step with nothing."""
        made = super().compute_loss(model, inputs, *arguments, **options)
        if "pixel_values" in inputs:
            return made
        nothing = sum(p.sum() for n, p in model.named_parameters() if p.requires_grad and PROJECTOR in n) * 0.0
        return (made[0] + nothing, made[1]) if isinstance(made, tuple) else made + nothing


class _Order(torch.utils.data.Sampler[int]):
    """All samples of all epochs, as one."""

    def __init__(self, lengths: Any, recipe: LlavaRecipe, num_samples: int) -> None:
        self._lengths, self._recipe, self._num_samples = lengths, recipe, num_samples

    def __len__(self) -> int:
        return self._num_samples

    def __iter__(self) -> Iterator[int]:
        return length_grouped(self._lengths, self._recipe.batch_size, self._num_samples, self._recipe.seed)


class _Checks(TrainerCallback):
    """Marks whole checkpoints, logs figures, and ends a training that has gone astray.

    out: folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """All of a checkpoint is on the disk now."""
        if state.is_world_process_zero:
            write_text(self._out / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / WHOLE, "")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """ValueError where the loss is no number any more."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise ValueError(f"the loss is {loss} at step {state.global_step}; expected a number: try lower rates")
        if state.is_world_process_zero and loss is not None:
            log.info("step %d of %d: loss %.4g", state.global_step, state.max_steps, loss)
            with (self._out / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")


def last_checkpoint(out: Path, clean: bool = False) -> str | None:
    """The newest checkpoint of a run that was written whole.

    Args:
        out: Folder of the run.
        clean: Remove those that were not.
    """
    found = sorted(out.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
    whole = [p for p in found if (p / WHOLE).is_file()]
    if clean:
        for folder in set(found) - set(whole):
            shutil.rmtree(folder, ignore_errors=True)
    return str(whole[0]) if whole else None


def _arguments(run: LlavaRun, recipe: LlavaRecipe) -> TrainingArguments:
    """What the Trainer is told; DeepSpeed and processes come from `accelerate launch`'s environment."""
    cpu = run.device == "cpu" or not torch.cuda.is_available()
    if cpu and run.device == "cuda":
        raise ValueError("device is 'cuda', but no CUDA device was found; expected 'cpu' or 'auto'")
    arguments = TrainingArguments(
        output_dir=str(run.out),
        bf16=run.dtype == "bfloat16" or (run.dtype == "auto" and not cpu),
        gradient_accumulation_steps=recipe.accumulation(int(os.environ.get("WORLD_SIZE", "1"))),
        per_device_train_batch_size=recipe.per_device_batch_size,
        max_steps=1,  # known when the data is
        learning_rate=recipe.lr,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup_ratio if recipe.warmup_ratio < 1 else 1.0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        **_checkpointing(recipe.gradient_checkpointing),
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=KEPT_CHECKPOINTS,
        logging_steps=LOG_STEPS,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        seed=recipe.seed,
        remove_unused_columns=False,
        dataloader_num_workers=run.num_workers,
        use_cpu=cpu,
        ddp_find_unused_parameters=False,
    )
    if arguments.n_gpu > 1:  # the Trainer would cut batches by rows, pixels too, and multiply their size
        log.warning("1 of %d GPUs is used; expected `accelerate launch` for more", arguments.n_gpu)
        arguments._n_gpu = 1
    return arguments


def _checkpointing(wanted: bool) -> dict[str, Any]:
    """Options for activations that are computed again, as this version of transformers names them."""
    known = {f.name for f in dataclasses.fields(TrainingArguments)}
    name = next(n for n in ("activation_checkpointing", "gradient_checkpointing") if n in known)
    return {name: wanted, f"{name}_kwargs": {"use_reentrant": False}}


def _check_run(run: LlavaRun, recipe: LlavaRecipe, world_size: int) -> None:
    """ValueError where the folder holds a run of something else: its checkpoints would not belong to this one."""
    made_with = {
        "stage": run.stage,
        "model": run.model,
        "data": sha256(run.data),
        "start": None if run.start is None else str(run.start),
        "steps": run.steps,
        "processes": world_size,
        "recipe": dataclasses.asdict(recipe),
    }
    path = run.out / RUN
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if odd := [key for key in made_with if kept.get(key) != made_with[key]]:
            raise ValueError(f"{run.out}: holds a run with another {odd[0]}; use another folder, or delete this one")
    else:
        write_text(path, json.dumps(made_with, indent=1) + "\n")


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """What the Trainer, torch and processes that prepare data raise for bad input, as ValueError with one line."""
    try:
        yield
    except ValueError as error:
        lines = str(error).strip().splitlines()
        whole = lines[-1:] if any(line.startswith("Traceback") for line in lines) else lines  # of another process
        raise ValueError(" ".join(whole).removeprefix("ValueError: ")) from error
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise ValueError(
                "memory has run out while training; expected a smaller per_device_batch_size or max_seq_len"
            ) from error
        raise


def _write(
    run: LlavaRun,
    recipe: LlavaRecipe,
    model: LoadedModel,
    trainer: LlavaTrainer,
    data: ConversationDataset,
    grounding_head: GroundingHead | None,
    steps: int,
) -> dict[str, Any]:
    """Write the adapter, in the main process; all take part in gathering the weights."""
    gathered = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_deepspeed_enabled else None
    if not trainer.is_world_process_zero():
        return {}
    folder = run.adapter or run.out / ADAPTER
    lora = trainer.accelerator.unwrap_model(trainer.model)
    mixed = data.report.samples["mixed"]
    info = AdapterInfo(
        (run.adapter or run.out).resolve().name,
        run.base or model.spec.base,
        region_token=False,
        grounding_head=grounding_head is not None,
        reasons=run.stage == "reason",
        general_questions=bool(mixed) or run.model != DEFAULT,
        training={
            "images": len(data),
            "samples": dict(data.report.samples),
            "left_out": dict(data.report.left_out.counts),
            "bad_images": len(data.bad()),
            "steps": steps,
            "stage": run.stage,
            "recipe": dataclasses.asdict(recipe),
        },
    )
    save_adapter(folder, info, lora.peft_config["default"], get_peft_model_state_dict(lora, gathered), grounding_head)
    log.info("wrote %s", folder)
    return {"adapter": str(folder), "training": info.training, "bad_images": data.bad()}


def save_adapter(
    folder: Path,
    info: AdapterInfo,
    config: LoraConfig,
    weights: dict[str, torch.Tensor],
    grounding_head: GroundingHead | None = None,
) -> None:
    """Write an adapter of a whole LLaVA atomically, as float16: a plain folder of `peft`, and proxqa's description.

    Args:
        folder: Is made or replaced.
        info: The description.
        config: Of the LoRA.
        weights: LoRA and projector, under the names of `peft`.
        grounding_head: None where it has none.

    Raises:
        ValueError: A weight is no number in float16, or there is no projector.
        WriteError: There is no room, or no right to write.
    """
    if not peft_folder.holds_projector(weights):
        raise ValueError(f"adapter {info.name!r} has no projector")
    half = {name: tensor.detach().cpu().half().contiguous() for name, tensor in weights.items()}
    if odd := [name for name, tensor in half.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(f"adapter {info.name!r}: weight {odd[0]} has values that float16 cannot hold")
    needed = sum(t.nbytes for t in half.values())
    with atomic_folder(folder, needed) as work:
        config = dataclasses.replace(config, inference_mode=True)
        config.base_model_name_or_path = info.base if adapters.HUB_ID.fullmatch(info.base) else None
        config.save_pretrained(work)
        save_file(half, work / adapters.LORA, metadata={"format": "pt"})
        if grounding_head is not None:
            head = {k: v.detach().cpu().half().contiguous() for k, v in grounding_head.state_dict().items()}
            save_file(head, work / adapters.GROUNDING_HEAD)
        write_text(work / adapters.INFO, json.dumps(dataclasses.asdict(info), indent=1) + "\n")
