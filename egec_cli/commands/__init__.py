"""The command line: each module parses the options of one command, calls one use case and renders its result.

May import: everything but `main`.
"""
