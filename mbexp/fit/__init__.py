"""Fits latency laws to measured points, with their errors and intervals: ``python -m mbexp.fit GRID.csv``."""

from mbexp.fit.forms import FORMS, Card, LawForm
from mbexp.fit.points import Points, read_points
from mbexp.fit.robust import Fit, fit_form

__all__ = ["FORMS", "Card", "Fit", "LawForm", "Points", "fit_form", "read_points"]
