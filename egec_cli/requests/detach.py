"""Do work in a process of its own that outlives this one, so that the caller need not wait for it."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from egec_cli.errors import TemporaryFailure
from egec_cli.translation import system_message

_STANDARD = (0, 1, 2)
_MOST_DESCRIPTORS = 4096


def run_detached(work: Callable[[], object]) -> None:
    """Start the work in a new session, with nothing of the caller's open, and return at once.

    The process inherits the umask and the limit on core dumps, which `main` sets. No database may be open. The work has
    to record its own failures: no one sees what it writes.

    Raises:
        TemporaryFailure: the system does not allow another process.
    """
    try:
        child = os.fork()
    except OSError as error:
        raise TemporaryFailure(
            "the request cannot be processed: {reason}",
            "Raise the limit on processes (ulimit -u, or TasksMax= of a systemd unit), then try again.",
            reason=system_message(error),
        ) from None
    if child == 0:
        # Whatever happens, this process never returns to the caller's code.
        with suppress(BaseException):
            _leave_caller()
            work()
        os._exit(0)


def _leave_caller() -> None:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in _STANDARD:
        os.dup2(nothing, descriptor)
    # So that a web server does not wait for the end of its pipes.
    os.closerange(len(_STANDARD), _MOST_DESCRIPTORS)
