"""`egec client disable --notify`: notify clients before an account is closed; only this option loads the module."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing as closing_at_end
from functools import partial
from threading import Event as StopEvent

import typer

from egec_cli.clients import closing
from egec_cli.clients.bulk import Changing
from egec_cli.clients.change import ChangeOutcome, ChangeRecord
from egec_cli.clients.closing import Closer, Conditions
from egec_cli.commands.client_bulk import (
    Kind,
    Request,
    change_selected,
    require_one_target,
    select_clients,
    show_dry_run,
)
from egec_cli.commands.client_selectors import open_selection, report_unmatched
from egec_cli.commands.options import count_clients
from egec_cli.commands.session import open_context, stop_on_signal
from egec_cli.credentials import mail_route
from egec_cli.errors import ExitCode, UsageError
from egec_cli.mail.transports import choose
from egec_cli.output.formats import OutputFormat
from egec_cli.output.messages import warn
from egec_cli.translation import Words

_EFFECTS = Words("{disabled} would be disabled, {notified} would be notified")
_QUESTION = Words("Disable {disabled} and notify {notified}?")


def close_accounts(
    kind: Kind, client: str, request: Request, output: OutputFormat, *, notify: str, reason: str
) -> None:
    """Notify the selected clients who were not notified yet, disable those who were notified long enough ago.

    Args:
        notify: how long before the closing a client is notified, such as `30d`.
        reason: of the closing, for the history.
    """
    period = closing.parse_period(notify)
    if client:
        raise UsageError("--notify is for many clients", "Select them by --from or another selector.")
    require_one_target(client, request)
    _require_logins_selected(request)
    with open_selection(request.selectors) as selection, open_context(only_read=request.dry_run) as context:
        selected = select_clients(context, kind, request, selection)
        found = closing.conditions(context.settings, period, context.clock())
        changing = Changing(selected, ChangeOutcome.DISABLED, due=found.is_to_notify | found.is_due)
        count_effects = partial(_count_effects, changing, found)
        if request.dry_run:
            failed = show_dry_run(
                context, changing, selected, request, output, count_effects=partial(count_effects, _EFFECTS)
            )
            error = None
        else:
            mail_route.require(context)
            with stop_on_signal() as stop, closing_at_end(choose.open_transport(context.settings)) as transport:
                closer = Closer(
                    context,
                    transport,
                    period,
                    reason=reason,
                    guard=changing.guard,
                    stop=stop,
                    first_pause=closing.FIRST_PAUSE,
                )
                walk = _Closing(changing, closer, stop)
                ask = partial(count_effects, _QUESTION)
                failed = change_selected(context, kind, request, selected, changing, output, walk=walk, ask=ask)
                closer.finish()
            failed += report_unmatched(selected)
            _report_undelivered(closer)
            error = closing.explain_end(closer)
    if error is not None:
        raise error
    if failed:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _require_logins_selected(request: Request) -> None:
    """Require a selector by logins: the mail tells its reader that the account has not been used for a long time.

    Without one, a client who signs in, as the mail asks, would be selected and notified again. With --never-logged-in
    alone, a client who was created yesterday would be notified.

    Raises:
        UsageError: such a selector is missing.
    """
    selectors = request.selectors
    if not (selectors.last_login_before or (selectors.never_logged_in and selectors.created_before)):
        raise UsageError(
            "--notify needs --last-login-before, or --never-logged-in with --created-before:"
            " its mail says that the account is not used",
            "Add --last-login-before 2y, or --never-logged-in --created-before 2y.",
        )


def _count_effects(changing: Changing, found: Conditions, template: Words) -> Words:
    return Words(
        template.template,
        disabled=count_clients(changing.count_where(found.is_due)),
        notified=count_clients(changing.count_where(found.is_to_notify)),
    )


class _Closing:
    """Closes the accounts of the selected clients until a signal stops it."""

    def __init__(self, changing: Changing, closer: Closer, stop: StopEvent) -> None:
        self._changing = changing
        self._closer = closer
        self._stop = stop
        self._total = 0
        self._numbers = Counter[ChangeOutcome]()

    def change(self, at_most: int | None) -> Iterator[ChangeRecord]:
        """Close at most this number of accounts and yield the results, without those who are left for later."""
        # Counted before the first notice: later, those who were notified since then would be counted again.
        self._total = self._changing.count() if at_most is None else at_most
        for batch in self._changing.read_batches(at_most=at_most):
            if self._stop.is_set():
                return
            lines = {client: line for client, line, _ in batch}
            for key, record in self._closer.close(list(lines)):
                self._numbers[record.outcome] += 1
                if record.outcome is not ChangeOutcome.POSTPONED:
                    yield record._replace(line=lines[key])

    def count_postponed(self) -> int:
        """Return the number of clients who are left for later, also of those not read yet when a signal came."""
        postponed = self._numbers[ChangeOutcome.POSTPONED]
        if not self._stop.is_set():
            return postponed
        return max(self._total - (self._numbers.total() - postponed), 0)


def _report_undelivered(closer: Closer) -> None:
    if closer.undelivered:
        warn(
            "egec: the notices of {clients} may not have arrived; they count nevertheless",
            clients=count_clients(closer.undelivered),
        )
        warn("      See `egec audit list --action client.closing`.")
