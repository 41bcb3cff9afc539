#!/usr/bin/env bash
# Guess:     hidden_states[-1] of a vision encoder is last_hidden_state (it is for language models), so "the last
#            layer's features" are one thing, and swapping CLIP for SigLIP or DINOv2 keeps their meaning.
# Behaviour: CLIP: equal, and both *without* the final layer norm, which goes into pooler_output only. SigLIP,
#            DINOv2, ViT: last_hidden_state is normalised, hidden_states[-1] is not. And get_image_features() gives
#            no tensor any more but an output object, whose pooler_output is the *projected* embedding.
# Versions:  transformers 5.23.0, torch 2.13.0
# Source:    https://github.com/huggingface/transformers/issues/13461 (ViT), /pull/26142 (a note in the docs),
#            /pull/40994 (tied for language models, not for vision ones)
# Matters:   heads and projectors trained on one of the two do worse on the other, without an error: a policy on
#            DINOv3 fell from 97 to 60 % of its tasks (https://github.com/H-EmbodVis/TurboVLA/pull/6). A LLaVA
#            model's vision_feature_layer=-1 takes hidden_states[-1]: not normalised, for every one of these
#            encoders.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0'
"$tmp/venv/bin/pip" install -q 'transformers==5.23.0'
cd "$tmp"
HF_HUB_OFFLINE=1 HF_HOME="$tmp/hf" "$tmp/venv/bin/python" - 2>/dev/null <<'PY'
import torch
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model
from transformers import SiglipVisionConfig, SiglipVisionModel, ViTConfig, ViTModel

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "image_size": 28, "patch_size": 14,
}  # fmt: skip
torch.manual_seed(0)
pixels = torch.randn(1, 3, 28, 28)


@torch.no_grad()
def states(config, model):
    encoder = model(config(**SIZES)).eval()
    for name, parameter in encoder.named_parameters():
        if "norm" in name:  # a trained norm is not the identity
            parameter.add_(torch.randn_like(parameter) * 0.3)
    norm = next(module for name, module in encoder.named_modules() if name.endswith(("post_layernorm", "layernorm")))
    output = encoder(pixels, output_hidden_states=True)
    last, raw = output.last_hidden_state, output.hidden_states[-1]
    return torch.equal(last, raw), torch.allclose(last, norm(raw), atol=1e-5)


seen = {
    "CLIP": states(CLIPVisionConfig, CLIPVisionModel),
    "SigLIP": states(SiglipVisionConfig, SiglipVisionModel),
    "DINOv2": states(Dinov2Config, Dinov2Model),
    "ViT": states(ViTConfig, ViTModel),
}
for name, (equal, normalised) in seen.items():
    print(f"{name}: last_hidden_state == hidden_states[-1]: {equal}; == norm(hidden_states[-1]): {normalised}")
text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 100}
features = CLIPModel(CLIPConfig(vision_config=SIZES, text_config=text, projection_dim=16)).get_image_features(pixels)
print("get_image_features:", type(features).__name__, "pooler_output", tuple(features.pooler_output.shape))
assert seen["CLIP"] == (True, False)
assert all(seen[name] == (False, True) for name in ("SigLIP", "DINOv2", "ViT"))
assert not torch.is_tensor(features) and features.pooler_output.shape == (1, 16)
PY
