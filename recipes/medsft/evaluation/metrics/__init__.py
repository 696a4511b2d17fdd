"""The computations behind the `evaluate` modules in recipes/metrics."""
