"""What runs the networks: protocols for vision encoder and language model, and implementations."""
