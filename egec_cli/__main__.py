"""`python -m egec_cli` is the same as `egec`."""

from egec_cli.main import entry

entry()
