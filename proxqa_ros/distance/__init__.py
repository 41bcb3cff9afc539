"""True distances of objects, one class per source, and what is learned from them."""
