"""Version of the package, and of the results it computes."""

__version__ = "0.1.0"

# Part of every run's key: raised, deliberately, whenever the same configuration gives other numbers than before, so
# that stored results of an older simulator are never taken for those of this one.
RESULTS_VERSION = 3
