"""The default model's vision tower: DINOv2 whose patches are merged m × m into one token each (m = spatial_merge_size).

Promises: a Hugging Face model (`AutoModel` builds it inside `LlavaForConditionalGeneration`), whose only hidden state
is the merged grid, [n, (side / m)², m² · c], row by row. Knows nothing of weight files or of language.

Sources: DINOv2, Oquab et al. 2023, arXiv 2304.07193; merging neighbouring patches as in InternVL's pixel shuffle, Chen
et al. 2024, arXiv 2404.16821.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, Dinov2Config, Dinov2Model, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from proxqa_core.vision.grid import merge_grid


class MergedDinov2Config(PreTrainedConfig):
    """Configuration of `MergedDinov2Model`.

    Args:
        backbone: A Dinov2Config as a dict.
        spatial_merge_size: Patches per side of a token.
        image_size: Side of the square input, in pixels.
        kwargs: Of the base class.

    Raises:
        ValueError: The image is not a whole number of tokens wide.
    """

    model_type = "merged_dinov2"

    def __init__(
        self, backbone: dict[str, Any] | None = None, spatial_merge_size: int = 2, image_size: int = 224, **kwargs: Any
    ):
        self.backbone = dict(backbone or {})
        self.spatial_merge_size = spatial_merge_size
        self.image_size = image_size
        known = Dinov2Config(**self.backbone)
        self.patch_size = known.patch_size
        self.hidden_size = known.hidden_size * spatial_merge_size**2
        side = image_size // known.patch_size
        if image_size % known.patch_size or side % spatial_merge_size:
            raise ValueError(
                f"image_size {image_size} is not a multiple of patch {known.patch_size} x merge {spatial_merge_size}"
            )
        kwargs.pop("hidden_size", None)
        kwargs.pop("patch_size", None)
        super().__init__(**kwargs)


class MergedDinov2Model(PreTrainedModel):
    """DINOv2 with merged patches; see the module."""

    config_class = MergedDinov2Config
    config: MergedDinov2Config
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: MergedDinov2Config):
        super().__init__(config)
        self.backbone = Dinov2Model(Dinov2Config(**config.backbone))
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Pixels [n, 3, image_size, image_size], normalised → tokens [n, (side / m)², m² · c]."""
        patches = self.backbone(pixel_values.to(self.backbone.dtype)).last_hidden_state[:, 1:]
        merged = merge_grid(patches, self.config.spatial_merge_size)
        return BaseModelOutputWithPooling(last_hidden_state=merged, hidden_states=(merged,))


AutoConfig.register(MergedDinov2Config.model_type, MergedDinov2Config)
AutoModel.register(MergedDinov2Config, MergedDinov2Model)
