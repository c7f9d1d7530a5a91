"""Prints the page of metrics: ``python -m mbexp.results.catalogue > docs/metrics.md``."""

from mbexp.results.catalogue.page import page

print(page(), end="")
