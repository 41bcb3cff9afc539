"""`proxqa serve`: the page to try it on, and the OpenAI-compatible interface."""
