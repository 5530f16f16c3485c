"""When a deferred mail is tried again, and when a paused run tries again."""

from datetime import datetime, timedelta

# The waits after the first, second … failed attempt, in seconds: 1, 5, 15, 30 minutes, 1, 2, 4 hours; then the last one
# each time. A mail server should retry for days, with growing waits (RFC 5321, 4.5.4.1); most greylists open within
# five minutes.
WAITS = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
# How long a client waits while another process is mailing it, in seconds.
WAIT_FOR_ANOTHER = 2.0
# Each wait is up to this much longer, so that mails that failed together do not return together.
_SPREAD = 0.2


def wait_after(failures: int) -> timedelta:
    """Return the shortest wait after this number of consecutive failures, at least one."""
    return timedelta(seconds=WAITS[min(failures, len(WAITS)) - 1])


def next_attempt(failures: int, since: datetime, at: datetime, hours: int) -> datetime | None:
    """Return when to try a mail again; None if it has been tried for long enough.

    The last attempt is at the end of that time.

    Args:
        failures: the number of failed attempts.
        since: the moment of the first one.
        at: the present moment.
        hours: how long a mail is tried (EGEC_MAIL_RETRY_HOURS).
    """
    deadline = since + timedelta(hours=hours)
    if at >= deadline:
        return None
    # Imported here: commands that only show runs do not need it.
    from random import uniform

    wait = wait_after(failures) * uniform(1.0, 1.0 + _SPREAD)  # noqa: S311 - no secret
    return min(at + wait, deadline)


def longest_waits() -> dict[int, timedelta]:
    """Return the longest wait of a client by its number of failed attempts; the last one also for higher numbers."""
    least = timedelta(seconds=WAIT_FOR_ANOTHER)
    waits = {failures: wait_after(failures) * (1.0 + _SPREAD) for failures in range(1, len(WAITS) + 1)}
    return {0: least} | {failures: max(least, wait) for failures, wait in waits.items()}


def longest_pause() -> timedelta:
    """Return the longest pause of a run."""
    return wait_after(len(WAITS))


def next_try_of_run(pauses: int, at: datetime) -> datetime:
    """Return when a run tries again after this number of pauses without an accepted mail between them."""
    return at + wait_after(pauses)
