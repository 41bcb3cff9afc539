"""Language: prompt templates of both stages, understanding of free-text questions, answers as sentences."""
