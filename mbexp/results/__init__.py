"""From an outcome to numbers, tables, files and lines in the terminal."""
