"""Data sets, read record by record: labelled folders, recordings, and what is published."""
