"""What `python -m tests.reference` makes of the program: the reference of the README, and the man page."""
