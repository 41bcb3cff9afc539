"""Depth-estimation models of random weights, small enough to be made in a test."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessorPil,
    GLPNConfig,
    GLPNForDepthEstimation,
    GLPNImageProcessorPil,
)

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def save_depth_anything(folder: Path, seed: int = 0) -> Path:
    """Of relative depth; its processor keeps the ratio of the sides."""
    torch.manual_seed(seed)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=84,
        patch_size=14,
        out_features=STAGES,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        head_hidden_size=8,
        patch_size=14,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    size = {"height": 84, "width": 84}
    DPTImageProcessorPil(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def save_glpn(folder: Path, seed: int = 0) -> Path:
    """Of metres."""
    torch.manual_seed(seed)
    config = GLPNConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8
    )
    GLPNForDepthEstimation(config).save_pretrained(folder)
    GLPNImageProcessorPil().save_pretrained(folder)
    return folder
