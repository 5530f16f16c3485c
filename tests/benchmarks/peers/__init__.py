"""Alternatives to egec that do the same work, each as a separate program."""
