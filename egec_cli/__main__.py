"""`python -m egec_cli` is the same as `egec`."""

import sys

from egec_cli.main import run

sys.exit(run())
