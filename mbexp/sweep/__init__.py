"""Sweeps: from Hydra's overrides to points, from points to stored runs, and from stored runs to one table."""
