"""The configuration: every key, the checks, and how one is composed."""
