"""The small tools from a checkout: `python -m mirror dsproductls --uri U`."""

import sys

from mirror.tools import main

sys.exit(main(sys.argv[1:]))
