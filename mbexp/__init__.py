"""Experiments on LLM-inference batching."""
