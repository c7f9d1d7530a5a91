"""The command line: Hydra in, a table and an exit code out."""
