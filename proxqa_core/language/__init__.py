"""The words of the project: templates of both stages and the understanding of free-text questions."""
