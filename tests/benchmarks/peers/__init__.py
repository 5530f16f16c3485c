"""What an organisation might use instead of egec: each runs as a program of its own and does the same work."""
