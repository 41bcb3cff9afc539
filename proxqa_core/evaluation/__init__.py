"""How good a model is, on a labelled folder, a bag or a running node: truth, runners, metrics and reports."""
