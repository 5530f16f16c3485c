"""What `python -m tests.reference` makes of the program: the guide `reference`, and the man pages."""
