"""``python -m kvplan``."""

from kvplan.cli.app import main

if __name__ == "__main__":
    main()
