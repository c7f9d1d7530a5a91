"""One module a latency law."""
