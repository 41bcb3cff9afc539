"""Everything that makes models: rendered scenes, instructions, training, calibration. `proxqa train` runs it."""
