"""What benchmarks share: how they measure, what they measure with, and the table of ratios.

Knows no single benchmark.
"""
