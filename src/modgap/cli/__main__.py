"""`python -m modgap.cli` is `modgap`."""

import sys

from modgap.cli import main

if __name__ == "__main__":
    sys.exit(main())
