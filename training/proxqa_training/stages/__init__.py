"""LoRA and projector with the language model: perceive, reason, fine-tuning and calibration."""
