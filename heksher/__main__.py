"""Run the command ``heksher`` as ``python -m heksher``."""

import sys

from heksher.cli import main

if __name__ == "__main__":
    sys.exit(main())
