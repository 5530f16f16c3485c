"""What `python -m docs` makes of the program: the reference of the README, and the man page."""
