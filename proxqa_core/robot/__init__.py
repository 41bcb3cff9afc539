"""What a robot makes of depths: metres, and speed limits."""
