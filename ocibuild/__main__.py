"""`python -m ocibuild`: the command line."""

import sys

from ocibuild.cli import main

if __name__ == "__main__":
    sys.exit(main())
