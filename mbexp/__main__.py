"""``python -m mbexp``."""

from mbexp.cli.main import start

if __name__ == "__main__":
    start()
