"""Runs the command line as ``python -m alhelpers.cli``."""

import sys

from alhelpers.cli import main

if __name__ == "__main__":
    sys.exit(main())
