"""Slow measurements, run by hand against a real service. Their recorded results lie in `benchmarks/results`."""
