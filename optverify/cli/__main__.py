"""``python -m optverify.cli``."""

import sys

from optverify.cli import main

if __name__ == "__main__":
    sys.exit(main())
