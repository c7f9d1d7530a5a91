"""Modes of execution, one module each."""
