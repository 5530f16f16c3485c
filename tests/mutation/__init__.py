"""Mutation tests: the program is broken in one place at a time, and a test has to notice.

    python -m tests.mutation [--sample N] [--seed S] [--only TEXT] [--jobs N] [--list] [--report] [--fresh]

A mutant that no test notices is a survivor: a promise that the tests do not hold. Each is answered by a new test, or by
an entry in `equivalent.toml` that says why no test can notice it. The command is for developers; the continuous
integration does not run it.

    python -m tests.mutation --sample 40                       # 40 mutants of all modules, the same 40 each time
    python -m tests.mutation --sample 40 --seed 2              # 40 others
    python -m tests.mutation --only credentials                # all mutants of the modules whose path has this text
    python -m tests.mutation --only credentials --only _promote   # those of one function
    python -m tests.mutation --list --only smtp                # show the mutants, run nothing
    python -m tests.mutation --report                          # show what earlier runs found, run nothing

Where things are
- `targets.py`: the table of the modules that are mutated and of the tests that must notice. Change it when files move.
- `mutants.py`: what is mutated: conditions, comparisons, boundaries, arithmetic, constants, returned values, operands
  of `and`, `or`, `&` and `|`, conditions in SQL, removed statements, arguments, decorators, transactions and handlers.
  Docstrings, messages, annotations and assertions are left alone.
- `equivalent.toml`: mutants that change nothing that a test can see, each with the reason.
- `trial.py`: runs the tests of one mutant, in a copy of the project; the project itself is never changed.
- `results.py`: keeps the results in `.mutation/` beside `pyproject.toml`. A run that was interrupted goes on where it
  stopped. A result counts until its module changes; a survivor is tried again once its tests change too.

First the tests of a module have to pass without a mutant. Then each mutant gets several times the time that they took.
A mutant that takes longer counts as killed by the time limit, and the report says so. Tests on PostgreSQL run only
for mutants that the others have missed. The exit code is 0 if at least 95 % of the mutants are killed.

Why no library: mutmut 3.8 leaves out constants and decorated functions, removes no statement and no operand, and its
mutants fail in every process that starts in a folder without its configuration, so tests of the real program kill them
all. cosmic-ray 8.7 removes no statement, operand or argument, and 533 of its 572 mutants of `credentials.py` put one
arbitrary operator in place of another.
"""
