"""Continuous batching: requests join and leave between two iterations."""
