"""The language model's side: prompts as tokens, the shared prefix and its branches, numbers read from probabilities."""
