"""Vision tower, projector and grounding head, without the language model; and the reader of colours."""
