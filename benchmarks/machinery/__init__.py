"""Code that benchmarks share: loops that measure, scenarios, and the table of ratios.

Knows no single benchmark.
"""
