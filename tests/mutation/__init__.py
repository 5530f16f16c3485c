"""Mutation tests: each mutant breaks the program in one place, and a test must notice.

    python -m tests.mutation [--sample N] [--seed S] [--only TEXT] [--jobs N] [--list] [--report] [--fresh]

A mutant that no test notices is a survivor. Add a test that notices it, or an entry in `equivalent.toml` that says why
no test can. The command is for developers; the continuous integration does not run it.

    python -m tests.mutation --sample 40                       # 40 mutants of all modules, the same 40 each time
    python -m tests.mutation --sample 40 --seed 2              # 40 others
    python -m tests.mutation --only credentials                # all mutants of the modules whose path has this text
    python -m tests.mutation --only credentials --only _promote   # those of one function
    python -m tests.mutation --list --only smtp                # show the mutants, run nothing
    python -m tests.mutation --report                          # show what earlier runs found, run nothing

Modules
- `targets.py`: the table of the modules that are mutated and of the tests that must notice. Change it when files move.
- `mutants.py`: what is mutated: conditions, comparisons, boundaries, arithmetic, constants, returned values, operands
  of `and`, `or`, `&` and `|`, conditions in SQL, removed statements, arguments, decorators, transactions and handlers.
  Docstrings, messages, annotations and assertions are left alone.
- `equivalent.toml`: mutants whose change no test can observe, each with the reason.
- `trial.py`: runs the tests of one mutant, in a copy of the project; the project itself is never changed.
- `plugin.py`: lets pytest note which lines each test runs, and run the tests in another order.
- `learned.py`: keeps what is known of the tests without a mutant, and puts them in order for one.
- `breaks.py`, `breaks.toml`: deliberate breaks of each promise, and the tests that must notice them. It is a command of
  its own: `python -m tests.mutation.breaks`.
- `results.py`: keeps the results in `.mutation/` beside `pyproject.toml`, so that an interrupted run continues.

First each file of tests runs once without a mutant; all must pass. Those on PostgreSQL are left out; one that notices a
mutant later must pass without it too. For each mutant the tests of its module run until
one fails: first those that noticed others in the same function, then those that run its line, then the rest, the
quickest first. So a survivor has passed all of them. Each test has a time limit, a multiple of its time without a
mutant. A mutant that exceeds it counts as killed, and the report says so. The exit code is 0 if at least 95 % of the
mutants are killed. What was learned and what was found is valid until the module or those tests change; adding a test
makes only the survivors run again.

Why no library: mutmut 3.8 mutates only functions, skips most decorated ones, and removes no statements. cosmic-ray 8.7
removes no statements, operands or arguments.
"""
