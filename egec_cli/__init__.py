"""egec: the administration command of eGEC, the client portal."""

__version__ = "0.1.0"
