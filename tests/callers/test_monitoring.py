"""The guide to monitoring on a machine: the folder, the line of cron, and what node exporter then reads."""

import re

from prometheus_client.parser import text_string_to_metric_families

from egec_cli.settings.types import Tls
from tests.manual.blocks import executed_by
from tests.manual.machine import machine
from tests.manual.server import INSTALL, STATE, Server
from tests.programs import require_programs_in
from tests.smtp_server import MailServer

FOLDER, CRON, ARGUMENTS = executed_by("tests/callers/test_monitoring.py")


def test_the_line_of_cron_writes_the_metrics_where_node_exporter_reads_them() -> None:
    require_programs_in(INSTALL.text)
    setting, line = CRON.text.splitlines()
    name, _, value = setting.partition("=")
    timed = re.fullmatch(r"(?:[0-9*/,-]+ +){5}([^%]+)", line)
    assert timed
    [folder] = re.findall(r'textfile\.directory=([^"]+)"', ARGUMENTS.text)
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as mail_server, machine() as made:
        server = Server.installed(made, mail_server)
        server.types(FOLDER.text)
        assert server.egec("client", "create", "jeanne@example.org").code == 0
        for _ in range(2):
            ended = made.run(
                ["sh", "-c", timed[1]],
                user="egec",
                variables={name: value, "HOME": STATE, "PATH": "/usr/bin:/bin"},
                folder=STATE,
            )
            assert ended == (0, "", "")
        assert made.must(["ls", "-A", folder]) == "egec.prom\n"
        written = made.run(["cat", f"{folder}/egec.prom"], user="www-data")
    families = {one.name: one for one in text_string_to_metric_families(written.out)}
    [new] = [one.value for one in families["egec_clients"].samples if one.labels == {"status": "new"}]
    assert new == 1
