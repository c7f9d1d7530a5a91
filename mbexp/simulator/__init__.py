"""The event loops, a folder each; they know arrays, policies and laws, and nothing of files or configurations."""
