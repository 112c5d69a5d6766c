"""The benchmarks that `pytest benchmarks/` runs: one file for each question."""
