"""Batches that run to completion."""
