"""Building Proximity-110K: images with named boxes and depth become LLaVA conversations of both stages."""
