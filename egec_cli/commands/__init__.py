"""The command line: each module reads its part of it, calls one use case and shows the result."""
