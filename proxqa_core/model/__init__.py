"""Models on disk: the default's base weights, loading, adapters."""
