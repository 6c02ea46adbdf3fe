"""Benchmarks: suites that measure the toolkit, and published studies done again."""
