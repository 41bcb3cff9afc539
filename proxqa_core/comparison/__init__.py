"""Comparing models: the same which-closer questions to all of them, judged alike."""
