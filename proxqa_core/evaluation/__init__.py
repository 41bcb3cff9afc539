"""How good a model is on a labelled folder: reader, metrics, runner and report."""
