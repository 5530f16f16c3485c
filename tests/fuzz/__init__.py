"""Thousands of generated command lines, settings, URLs and files over all commands of egec.

    python -m tests.fuzz --cases 20000 --seed 1        # about ten minutes of two idle cores
    python -m tests.fuzz --seed 1 --only 4711          # one case again, with all that it was given and what it printed

No case may end with exit code 70 or an undocumented one, hang, be killed by a signal, or print a traceback.
A case depends only on its seed, its number and the commands and settings of the program.
"""
