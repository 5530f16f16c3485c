"""SpamAssassin and rspamd of Debian, scoring mails by their local rules only."""

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from email import message_from_bytes
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple

from egec_cli.mail.compose.message import Mail
from tests.callers.service_account import folder_of_service_account, free_port, running
from tests.programs import require_program

RELAY = "mail.egec.pro"
# Filters consider IPv4 documentation addresses forged.
RELAY_ADDRESS = "2001:db8::25"
_PATIENCE = 120.0  # the first start compiles all the rules
_RSPAMD_ACCOUNT = "_rspamd"
_RSPAMD_CONF = Path("/etc/rspamd/rspamd.conf")
# Those that ask the network, others' databases or earlier mails.
_NOT_LOCAL = (
    "antivirus", "arc", "asn", "bimi", "dcc", "dkim", "dkim_signing", "dmarc", "fuzzy_check", "greylist", "hfilter",
    "history_redis", "mx_check", "neural", "phishing", "ratelimit", "rbl", "replies", "reputation", "rspamd_update",
    "spf", "surbl", "url_redirector",
)  # fmt: skip
_NOBODY_ANSWERS = 'dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }\n'


class Verdict(NamedTuple):
    """The result of a filter: the score, higher is worse, and the rules that matched."""

    score: float
    rules: Mapping[str, float] | str


def as_received(mail: Mail, at: datetime) -> bytes:
    """Return a mail as the filter of its recipient gets it.

    The organisation's relay has taken it from the machine of egec, by a login, and has brought it, over TLS and with a
    name that fits its address, to the recipient's mail server.
    """
    domain = mail.recipient.rpartition("@")[2]
    trace = (
        f"Return-Path: <{mail.sender}>\r\n"
        f"Received: from {RELAY} ({RELAY} [IPv6:{RELAY_ADDRESS}])\r\n"
        f"\tby mx1.{domain} (Postfix) with ESMTPS id 4F8zXy3Wl9z1qk\r\n"
        f"\tfor <{mail.recipient}>; {format_datetime(at + timedelta(seconds=2))}\r\n"
        "Received: from app.egec.pro (app.egec.pro [10.0.0.5])\r\n"
        f"\tby {RELAY} (Postfix) with ESMTPSA id 4F8zXx1Vk8z9rj\r\n"
        f"\tfor <{mail.recipient}>; {format_datetime(at + timedelta(seconds=1))}\r\n"
    )
    return trace.encode() + mail.content


def by_spamassassin(received: Sequence[bytes]) -> list[Verdict]:
    """Score mails with SpamAssassin: its own rules, no network, nothing learnt."""
    program = require_program("spamassassin", "spamassassin")
    mbox = b"".join(
        b"From %d Wed Nov 25 09:00:00 2026\n%b\n"
        % (number, mail.replace(b"\r\n", b"\n").replace(b"\nFrom ", b"\n>From "))
        for number, mail in enumerate(received)
    )
    command = [program, "--local", "--nocreate-prefs", "--cf=use_bayes 0", "--mbox"]
    done = subprocess.run(command, input=mbox, capture_output=True, timeout=600, check=True)
    # It sorts them by their dates.
    _, *marked = re.split(rb"^From ([0-9]+) .*\n", done.stdout, flags=re.MULTILINE)
    by_number = dict(zip(map(int, marked[::2]), marked[1::2], strict=True))
    return [_of_header(str(message_from_bytes(by_number[number])["X-Spam-Status"])) for number in range(len(received))]


def _of_header(status: str) -> Verdict:
    found = re.search(r"score=(-?[0-9.]+).* tests=(.*?) autolearn=", " ".join(status.split()))
    assert found is not None, status
    return Verdict(float(found[1]), found[2])


class Rspamd(NamedTuple):
    """A filter that listens on a port of the loopback address."""

    port: int

    def verdict(self, mail: Mail, received: bytes) -> Verdict:
        """Return what it makes of a mail that the relay brings."""
        envelope = {"IP": RELAY_ADDRESS, "Helo": RELAY, "Hostname": RELAY, "From": mail.sender, "Rcpt": mail.recipient}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/checkv2", received, envelope)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        rules = {name: symbol["score"] for name, symbol in answer["symbols"].items() if symbol["score"]}
        return Verdict(round(answer["score"], 2), rules)


@contextmanager
def running_rspamd() -> Iterator[Rspamd]:
    """Run rspamd for the `with` block, with Debian's settings except port and folders."""
    program, port = require_program("rspamd", "rspamd"), free_port()
    with folder_of_service_account() as folder:
        folder.chmod(0o755)
        local = folder / "local.d"
        local.mkdir()
        for module in _NOT_LOCAL:
            (local / f"{module}.conf").write_text("enabled = false;\n")
        for worker in ("controller", "proxy", "fuzzy"):
            (local / f"worker-{worker}.inc").write_text("enabled = false;\n")
        (local / "worker-normal.inc").write_text(f'bind_socket = "127.0.0.1:{port}";\ncount = 1;\n')
        (local / "options.inc").write_text(
            f'{_NOBODY_ANSWERS}filters = "chartable,regexp";\ndisable_hyperscan = true;\n'
        )
        (written := folder / "written").mkdir()
        command = [program, "--no-fork", "--config", str(_RSPAMD_CONF)]
        command += [
            f"--var=LOCAL_CONFDIR={folder}",
            *(f"--var={name}={written}" for name in ("DBDIR", "RUNDIR", "LOGDIR")),
        ]
        if os.geteuid() == 0:
            command += ["--user", _RSPAMD_ACCOUNT, "--group", _RSPAMD_ACCOUNT]
            shutil.chown(written, _RSPAMD_ACCOUNT, _RSPAMD_ACCOUNT)
        with running(command, port, written / "rspamd.log", _PATIENCE):
            yield Rspamd(port)
