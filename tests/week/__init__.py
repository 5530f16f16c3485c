"""A week in a minute: the real program, driven by scripts as an organisation drives it, through all that a week brings.

    python -m tests.week [--clients 5000] [--database URL|postgresql] [--seed N]

Every act is a process of its own, which `tests.week.office` starts, and the mail goes to a real SMTP server that fails
now and then.

Monday brings a database of the first release and tables of clients; Tuesday the activations; Wednesday the
logins; in the night to Thursday a run is killed and loses its mail server; Friday brings bounces, changes and erasures;
Saturday a disaster and a restore; Sunday the expiry of passwords and the pruning of the record. Then
`tests.week.promises` holds what each client received against what opens the account, and the books are shown.

The program's clock is not moved, so the days follow each other within seconds. What the calendar does is done to the
rows by SQL: passwords and events are aged, and pauses between two attempts of a run are cut short (`tests.week.store`).
Hashes are of cost 4.
"""
