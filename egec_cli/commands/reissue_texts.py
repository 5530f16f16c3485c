"""What people read about runs: the preview, the summary at the end, and the card of one run."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from egec_cli import clock
from egec_cli.clients.select import explain_selectors
from egec_cli.commands.options import count_clients
from egec_cli.errors import quoted
from egec_cli.output.cards import Line, Part, card_lines, describe_duration, make_line
from egec_cli.output.terminal import text_for_people
from egec_cli.reissue.report import Act, FailureGroup, FailureKind, RunRecord, RunReport
from egec_cli.settings.parsing import format_rate
from egec_cli.settings.types import MaildirFolder, Rate, Settings
from egec_cli.store.models import RunState
from egec_cli.translation import Words, count_words, format_number, translate

if TYPE_CHECKING:
    from egec_cli.reissue.preview import RunPreview

_INDENT = 2
_TIMES = "\N{MULTIPLICATION SIGN}"
# Further reasons are shown as a number.
_MOST_REASONS = 8


# The summary at the end.


def summary_lines(report: RunReport, *, unmatched: int = 0, code: int = 0, with_next: bool = True) -> list[Line]:
    """Return the numbers of a run in one line, the failures by reason, and the next command.

    Args:
        unmatched: the number of lines that match no client.
        code: the exit code.
        with_next: name the next command; an error that follows may name it.
    """
    run = report.run
    parts = [_heading(run.name)]
    for part in _count_outcomes(report, unmatched):
        parts += [Part(", "), part] if len(parts) > 1 else [part]
    if code:
        parts.append(Part(translate(Words(" (exit {code})", code=code))))
    following = _next_lines(report, unmatched) if with_next else []
    return [make_line(*parts, indent=_INDENT), *reason_lines(report.failures), *following]


def _heading(name: str) -> Part:
    return Part(f"{translate(Words('{heading}:', heading=name))} ", "bold")


def _count_outcomes(report: RunReport, unmatched: int) -> Iterator[Part]:
    kinds = {kind: sum(one.clients for one in report.failures if one.kind is kind) for kind in FailureKind}
    mailed, left, deferred = report.run.accepted, report.run.remaining, report.run.deferred
    words = count_words("0 mailed", "1 mailed", "{number} mailed", mailed)
    yield Part(translate(words), "green" if mailed else "")
    for number, style, one, many in (
        (kinds[FailureKind.REFUSED], "red", Words("1 refused"), Words("{number} refused")),
        (kinds[FailureKind.DEFERRED], "red", Words("1 not accepted in time"), Words("{number} not accepted in time")),
        (
            kinds[FailureKind.LEFT_OUT],
            "red",
            Words("1 disabled, inactive or erased"),
            Words("{number} disabled, inactive or erased"),
        ),
        (unmatched, "red", Words("1 line unknown"), Words("{number} lines unknown")),
        (kinds[FailureKind.IN_DOUBT], "red", Words("1 in doubt"), Words("{number} in doubt")),
        (report.run.skipped, "", Words("1 skipped"), Words("{number} skipped")),
    ):
        if number:
            yield Part(translate(one if number == 1 else Words(many.template, number=format_number(number))), style)
    if left:
        words = count_words("0 left", "1 left", "{number} left", left)
        if deferred:
            words = Words("{left}, of which {number} deferred", left=words, number=format_number(deferred))
        yield Part(translate(words), "yellow")


_REASONS = {
    "in_doubt": Words("the mail server's answer was lost"),
    "too_many_in_doubt": Words("too many deliveries in doubt"),
    "client_disabled": Words("client disabled"),
    "client_erased": Words("client erased"),
    "client_inactive": Words("client outside the validity dates"),
    "smtputf8_not_offered": Words("the mail server supports only ASCII addresses"),
    "mail_deferred": Words("the mail server deferred the mail"),
    "mail_throttled": Words("the mail server accepts no more mail for now"),
    "too_many_connections": Words("the mail server accepts no more connections for now"),
    "mail_blocked": Words("blocked by the mail server"),
    "mail_refused": Words("refused by the mail server"),
    "invalid_input": Words("invalid address"),
}


def reason_lines(failures: Sequence[FailureGroup]) -> list[Line]:
    """Return a line for each reason, as in `5 x 550 5.1.1 User unknown`."""
    numbers = [format_number(one.clients) for one in failures]
    column = max(map(len, numbers), default=0)
    lines = [
        make_line(
            Part(f"{' ' * _INDENT}{number.rjust(column)} {_TIMES} ", "red"),
            one.reply or translate(_REASONS.get(one.failure, one.failure)),
            is_whole=True,
        )
        for number, one in zip(numbers, failures[:_MOST_REASONS], strict=False)
    ]
    if others := failures[_MOST_REASONS:]:
        clients = count_clients(sum(one.clients for one in others))
        text = Words("{clients} for other reasons", clients=clients)
        lines.append(make_line(translate(text), indent=_INDENT, label=" " * _INDENT))
    return lines


def _next_lines(report: RunReport, unmatched: int) -> list[Line]:
    command = _next_command(report)
    if command:
        return [next_line(command, later=report.run.next_attempt_at is not None)]
    if unmatched:
        text = Words("Next: correct the unknown lines in a new list, and start a run of it under another name")
        return [make_line(translate(text), indent=_INDENT)]
    return []


def next_line(command: str, *, later: bool = False) -> Line:
    """Return the line that names the next command; `later` if it would only wait at present."""
    text = Words("Later: {command}", command=_COMMAND) if later else Words("Next: {command}", command=_COMMAND)
    return _command_line(text, command)


def retry_line(name: str) -> Line:
    """Return the line that says how to mail again those who failed."""
    text = Words("After correcting the addresses: {command}", command=_COMMAND)
    return _command_line(text, f"egec reissue retry {quoted(name)}")


# Stands for a command in a text, as only the command is bold.
_COMMAND = "\0"


def _command_line(text: Words, command: str) -> Line:
    before, _, after = translate(text).partition(_COMMAND)
    return make_line(before, Part(command, "bold"), after, indent=_INDENT)


def _next_command(report: RunReport) -> str:
    """Return the command that helps; empty if there is nothing to do."""
    run, name = report.run, quoted(report.run.name)
    if run.state is RunState.CANCELLED:
        return ""
    if report.has_no_worker and run.remaining:
        return f"egec reissue resume {name}"
    kinds = {one.kind for one in report.failures}
    # These may succeed as they are; the others need a look first.
    if kinds and kinds <= {FailureKind.DEFERRED, FailureKind.IN_DOUBT}:
        return f"egec reissue retry {name}"
    return f"egec reissue status {name} --failed" if run.failed else ""


# The card of one run.


def run_lines(report: RunReport) -> list[Line]:
    """Return the card of a run: state, numbers, rate, times, last worker, failures, next command."""
    run = report.run
    state, style = _describe_state(report)
    total = max(run.total, 1)
    share = Words(
        "{accepted} of {total} ({percent} %)",
        accepted=format_number(run.accepted),
        total=count_clients(run.total),
        percent=int(run.accepted * 100 / total),
    )
    rows: list[tuple[str, Part | str]] = [(Words("Selected"), explain_selectors(report.selectors))]
    rows.append((Words("Mailed"), share))
    if run.failed:
        rows.append((Words("Failed"), Part(format_number(run.failed), "red")))
    if run.skipped:
        text = count_words(
            "0", "1 (this client has a newer password)", "{number} (they have a newer password)", run.skipped
        )
        rows.append((Words("Skipped"), text))
    if run.remaining:
        rows.append((Words("Left"), Part(translate(_describe_rest(run)), "yellow")))
    rows.append((Words("Rate"), _describe_present_rate(report)))
    if refusal := _last_refusal(report):
        rows.append((Words("Last refusal"), refusal))
    rows.append((Words("Started"), _describe_act(report.started, run.created_at)))
    if run.finished_at:
        took = clock.parse_time(run.finished_at) - clock.parse_time(run.created_at)
        ended = Words(
            "{moment} (after {duration})",
            moment=text_for_people(run.finished_at),
            duration=describe_duration(took.total_seconds()),
        )
        rows.append((Words("Finished"), ended))
    elif report.time_left is not None and not report.has_no_worker:
        left = describe_duration(report.time_left.seconds)
        is_least = report.time_left.is_least
        end = Words("in at least {duration}" if is_least else "in about {duration}", duration=left)
        rows.append((Words("Expected end"), end))
    if report.worked is not None:
        rows.append((Words("Last worker"), _describe_act(report.worked, clock.to_rfc3339(report.worked.at))))
    command = _next_command(report)
    return [
        make_line(_heading(run.name), Part(translate(state), style), indent=_INDENT),
        *card_lines(rows),
        *reason_lines(report.failures),
        *([next_line(command, later=run.next_attempt_at is not None)] if command else []),
    ]


# Why a run was paused, by error code.
_PAUSES = {
    "mail_server_unavailable": Words("the mail server is unavailable"),
    "mail_throttled": Words("the mail server accepts no more mail for now"),
    "too_many_connections": Words("the mail server accepts no more connections for now"),
    "mail_blocked": Words("the mail server blocks our mail"),
    "login_secret_unavailable": Words("the program that prints the password or token for the mail server failed"),
    "mail_refused": Words("the mail server refuses all mails"),
    "mail_deferred": Words("the mail server takes no mail at present"),
    "in_doubt": Words("the mail server's answers are lost"),
    "configuration": Words("a setting is wrong, or the mail server refuses the login or the sender"),
}


def _describe_state(report: RunReport) -> tuple[Words, str]:
    run = report.run
    if run.state is RunState.DONE:
        return (Words("done, but some mails failed"), "red") if run.failed else (Words("done"), "green")
    if run.state is RunState.CANCELLED:
        return Words("cancelled; clients not mailed keep their password"), "red"
    if not report.has_no_worker:
        return Words("running"), "yellow"
    if report.paused is not None:
        code = report.paused.outcome
        return Words("paused: {reason}", reason=_PAUSES.get(code, code)), "yellow"
    if run.waits_because == "mail_quota_reached":
        return Words("waiting for the quota of mails; no worker is active"), "yellow"
    if run.next_attempt_at is not None:
        return Words("waiting for its next attempt; no worker is active"), "yellow"
    return Words("stopped before its end; no worker is active"), "yellow"


def _describe_rest(run: RunRecord) -> Words | str:
    number: str = format_number(run.remaining)
    if run.deferred == run.remaining:
        number = count_words("0", "1, deferred", "{number}, all deferred", run.remaining)
    elif run.deferred:
        number = Words("{number}, of which {deferred} deferred", number=number, deferred=format_number(run.deferred))
    if run.next_attempt_at is None:
        return number
    moment = clock.to_zoned_text(clock.parse_time(run.next_attempt_at))
    return Words("{number}; next attempt at {moment}", number=number, moment=moment)


def _describe_present_rate(report: RunReport) -> str:
    run, asked = report.run, _describe_rate(report.rate)
    if run.throttled_rate is None:
        return asked
    return Words("{rate:g}/min, slowed down by the mail server (set: {asked})", rate=run.throttled_rate, asked=asked)


def _last_refusal(report: RunReport) -> str:
    """Return the mail server's words because of which the run is slower or paused; empty for none."""
    return report.run.throttled_by or ("" if report.paused is None else report.paused.reply)


def _describe_act(act: Act | None, moment: str) -> str:
    at = text_for_people(moment)
    if act is None:
        return at
    return Words("{moment} by {actor} on {host}", moment=at, actor=act.actor, host=act.host)


# The preview.


def preview_lines(
    name: str, found: "RunPreview", settings: Settings, *, existing: RunRecord | None = None, unmatched: int = 0
) -> list[Line]:
    """Return what a run would do: how many mails of each kind, from where, how fast, how long.

    Args:
        existing: the run, if it exists.
        unmatched: the number of lines that match no client.
    """
    from egec_cli.mail.compose.template import Kind

    rows: list[tuple[str, Part | str]] = [
        (Words("First passwords"), format_number(found.mails[Kind.CREDENTIALS])),
        (Words("Replacements"), format_number(found.mails[Kind.REISSUE])),
    ]
    if found.bounced:
        rows.append((Words("Bounced before"), Part(format_number(found.bounced), "yellow")))
    if unmatched:
        rows.append((Words("Unknown lines"), Part(format_number(unmatched), "red")))
    rows += [
        (Words("Mail server"), _describe_server(found, settings)),
        (Words("Sender"), settings.mail_from),
        (Words("Rate"), _describe_rate(found.rate)),
        (Words("Duration"), _describe_expected_duration(found)),
    ]
    lines = [make_line(_heading(name), translate(count_clients(sum(found.mails.values()))))]
    if existing is not None:
        text = Words(
            "The run {name} already exists. State: {state}; clients left: {remaining} of {total}; failed: {failed}.",
            name=existing.name,
            state=existing.state,
            remaining=format_number(existing.remaining),
            total=format_number(existing.total),
            failed=format_number(existing.failed),
        )
        lines.append(make_line(translate(text), indent=_INDENT, label=" " * _INDENT))
    return [*lines, *card_lines(rows)]


def _describe_server(found: "RunPreview", settings: Settings) -> Part | str:
    server = settings.mail_server
    if isinstance(server, MaildirFolder):
        return Part(translate(Words("none; mails are saved to {folder}", folder=server)), "yellow")
    if found.mail_seconds is None:
        text = Words("no mail can be sent at present: {fault}", fault=found.fault)
        return Part(translate(text), "red")
    milliseconds = found.mail_seconds * 1000
    return Words("{server}, answers within {milliseconds:.0f} ms", server=server, milliseconds=milliseconds)


def _describe_rate(rate: Rate) -> str:
    return format_rate(rate) if rate else Words("no limit")


def _describe_expected_duration(found: "RunPreview") -> Words:
    duration = describe_duration(found.seconds)
    return Words(
        "{duration} (a hash takes {milliseconds:.0f} ms)",
        duration=duration if found.seconds < 1 else Words("about {duration}", duration=duration),
        milliseconds=found.hash_seconds * 1000,
    )


def sample_lines(found: "RunPreview") -> list[Line]:
    """Return a sample of the mail that most clients would get."""
    from egec_cli.mail.compose.template import Kind

    kind = max(found.mails, key=found.mails.__getitem__)
    readers = {
        Kind.CREDENTIALS: Words("A client who has never had a password would read, with another password:"),
        Kind.REISSUE: Words("A client who has had a password would read, with another password:"),
    }
    texts = [translate(readers[kind]), "", *found.sample.splitlines(), ""]
    return [make_line(text) for text in texts]
