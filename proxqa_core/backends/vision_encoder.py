"""Vision encoders: preprocessed pixels in, the vision tower's features out, whatever runs them.

Promises: `VisionEncoder` is all that the engine asks of an encoder. Knows nothing of the projector or of language.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch


class VisionEncoder(Protocol):
    """Turns pixels into features."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels: float32 [n, 3, size, size], normalised. Returns [n, tokens, hidden], before the projector."""
        ...


class TorchVisionEncoder:
    """The vision tower inside a loaded LLaVA, in its own device and type."""

    def __init__(self, llava: Any):
        self._tower = llava.model.vision_tower
        self._config = llava.config

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `VisionEncoder.encode`."""
        layer = self._config.vision_feature_layer
        pixels = pixels.to(device=self._tower.device, dtype=self._tower.dtype)
        states = self._tower(pixels, output_hidden_states=True).hidden_states
        chosen = [states[i] for i in ([layer] if isinstance(layer, int) else layer)]
        if self._config.vision_feature_select_strategy == "default":
            chosen = [state[:, 1:] for state in chosen]  # without the class token
        features: torch.Tensor = torch.cat(chosen, dim=-1)
        return features
