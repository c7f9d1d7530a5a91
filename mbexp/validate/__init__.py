"""Holds the simulator against theory (``python -m mbexp.validate``) and against the papers (``...validate.papers``)."""
