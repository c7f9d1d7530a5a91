"""``python -m mbexp``."""

from mbexp.cli import main

if __name__ == "__main__":
    main()
