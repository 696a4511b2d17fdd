"""One module a metric: what the `evaluate` modules in recipes/metrics compute."""
