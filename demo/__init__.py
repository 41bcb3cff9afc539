"""The demo: a recorded drive is played to the real node, which is asked about it; see `demo.run`."""
