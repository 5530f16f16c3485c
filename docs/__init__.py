"""What of the documentation is made of the code: the README's reference and the man page. `python -m docs` writes both."""
