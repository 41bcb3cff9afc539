"""A tiny LLaVA of CLIP and Llama with random weights, in the Hugging Face layout, and an adapter for it."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from proxqa_core.model import adapter as adapters
from proxqa_core.model.adapter import AdapterInfo
from proxqa_core.model.base_weights import default_base
from proxqa_core.vision.grounding_head import GroundingHead

SIDE = 56
TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
)


def save_llava(place: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(default_base())
    tokenizer.chat_template = TEMPLATE
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=14
    )
    text = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(tokenizer)
    )
    config = LlavaConfig(vision_config=vision, text_config=text)
    config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(place)
    return place


def save_adapter(base: Path, place: Path, seed: int = 1, grounding_head: bool = True) -> PeftModel:
    """An adapter of random weights for `base`; returns the language model with its LoRA, as peft has it."""
    llava = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    lora = get_peft_model(llava.model.language_model, config)
    with torch.no_grad():
        for name, weight in lora.named_parameters():
            if ".lora_" in name:
                weight.copy_(weight.half())  # as they are written
    projector = {k: torch.randn_like(v) / 8 for k, v in llava.model.multi_modal_projector.state_dict().items()}
    finder = GroundingHead(32, 64, 8, 12) if grounding_head else None
    adapters.save(place, AdapterInfo(place.name, str(base), grounding_head=grounding_head), projector, lora, finder)
    return lora
