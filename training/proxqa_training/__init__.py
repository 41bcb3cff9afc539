"""Everything that makes models: rendered scenes, instructions, training, export."""
