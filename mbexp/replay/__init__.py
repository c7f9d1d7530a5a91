"""Serves a window of a trace on the real GPU and compares with its simulation: ``python -m mbexp.replay``."""
