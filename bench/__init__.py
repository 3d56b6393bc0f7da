"""Benchmarks: each prints its figures as JSON lines; `python -m bench` runs all and ends with a table."""
