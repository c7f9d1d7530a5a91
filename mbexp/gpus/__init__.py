"""The cards that ship: what an engine with a model takes on a GPU, and what the GPU costs."""
