"""Values in commands that people are told to type."""


def quoted(value: object) -> str:
    """Return a value, such as the name of a run or a path, as one word of a shell."""
    # Imported here: only hints and advice need it.
    import shlex

    return shlex.quote(str(value))
