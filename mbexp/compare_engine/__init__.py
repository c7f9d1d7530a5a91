"""Simulates the requests of a recorded run of a real engine and compares: ``python -m mbexp.compare_engine``."""
