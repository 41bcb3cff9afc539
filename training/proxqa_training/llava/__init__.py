"""Any LLaVA trained on conversations, by Hugging Face's Trainer and peft; adapters of LLaVA's own code converted."""
