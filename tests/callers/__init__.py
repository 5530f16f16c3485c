"""`egec verify` called by the real programs that rely on it."""
