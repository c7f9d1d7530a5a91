"""``python -m mbexp``."""

from mbexp.cli.main import main

if __name__ == "__main__":
    main()
