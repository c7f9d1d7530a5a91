"""The papers' and the original's numbers beside exact and simulated ones: ``python -m mbexp.validate.papers``."""
