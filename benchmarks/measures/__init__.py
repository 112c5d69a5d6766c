"""The benchmarks that `pytest benchmarks/` runs. Each file answers one question."""
