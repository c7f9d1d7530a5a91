"""Measures how long a GPU takes to prefill, to decode and to serve whole batches: ``python -m mbexp.measure``."""
