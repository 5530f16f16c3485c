"""The values of settings: valid texts, and what is wrong with the others."""

import re
from pathlib import Path

import pytest

from egec_cli.password import Alphabet
from egec_cli.settings.load import load_settings, read_settings
from egec_cli.settings.parsing import format_rate, parse_rate
from egec_cli.settings.schema import SETTINGS
from egec_cli.settings.types import (
    ENV_FILE_VARIABLE,
    Limit,
    PostgresqlServer,
    SecretCommand,
    SecretFile,
    SmtpServer,
    Tls,
)
from tests.settings.conftest import SECRET, faults, load_file, smtp, written

SLASHES = "needs three slashes before a relative path (sqlite:///egec.db), four before an absolute one"
NO_URL = "is not a valid URL (in a password, write @ : / ? # % as %40 %3A %2F %3F %23 %25)"
NO_RATE = "must be mails per s, min, h or d, such as 30/min, or several separated by commas; 0 = no limit"
NO_SMTP_URL = "is not of the form smtp://USER:PASSWORD@HOST:PORT (in a password, write @ as %40, / as %2F ...)"


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("smtp://mail.x.fr", "mail.x.fr", 587, Tls.STARTTLS),
        ("smtp://mail.x.fr/", "mail.x.fr", 587, Tls.STARTTLS),
        ("smtp://mail.x.fr:25", "mail.x.fr", 25, Tls.STARTTLS),
        ("smtp://mail.x.fr?tls=required", "mail.x.fr", 587, Tls.STARTTLS),
        ("smtp://mail.x.fr?tls=none", "mail.x.fr", 25, Tls.NONE),
        ("smtp://mail.x.fr:2525/?tls=none", "mail.x.fr", 2525, Tls.NONE),
        ("smtps://mail.x.fr", "mail.x.fr", 465, Tls.IMPLICIT),
        ("smtps://mail.x.fr:4650", "mail.x.fr", 4650, Tls.IMPLICIT),
        ("smtps://localhost", "localhost", 465, Tls.IMPLICIT),
        ("smtp://localhost", "localhost", 25, Tls.NONE),
        ("smtp://LOCALHOST:1025", "localhost", 1025, Tls.NONE),
        ("smtp://127.0.0.1", "127.0.0.1", 25, Tls.NONE),
        ("smtp://127.1.2.3", "127.1.2.3", 25, Tls.NONE),
        ("smtp://[::1]:1025", "::1", 1025, Tls.NONE),
        ("smtp://[::1]", "::1", 25, Tls.NONE),
        ("smtp://localhost?tls=required", "localhost", 587, Tls.STARTTLS),
        ("smtp://localhost.evil.com", "localhost.evil.com", 587, Tls.STARTTLS),
        ("smtp://127.0.0.1.evil.com", "127.0.0.1.evil.com", 587, Tls.STARTTLS),
        ("smtp://[2001:db8::1]", "2001:db8::1", 587, Tls.STARTTLS),
    ],
)
def test_the_connection_to_a_mail_server_is_encrypted_unless_it_is_local(
    url: str, host: str, port: int, tls: Tls
) -> None:
    server = smtp(url)
    assert (server.host, server.port, server.tls, server.user, server.password.reveal()) == (host, port, tls, "", "")


@pytest.mark.parametrize(
    ("written_as", "user", "password"),
    [
        ("u:p", "u", "p"),
        ("u", "u", ""),
        ("u%40x.fr:p%40%3A%2F%3F%23%25w", "u@x.fr", "p@:/?#%w"),
        ("u@x.fr:p@w", "u@x.fr", "p@w"),
        ("u:a:b", "u", "a:b"),
        ("u:caf%C3%A9+", "u", "café+"),
        ("u:100%sure", "u", "100%sure"),
        ("u:$X", "u", "$X"),
    ],
)
def test_user_and_password_of_a_mail_server_are_decoded(written_as: str, user: str, password: str) -> None:
    server = smtp(f"smtp://{written_as}@mail.x.fr")
    assert (server.host, server.user, server.password.reveal()) == ("mail.x.fr", user, password)


def test_the_path_of_the_trusted_authorities_is_relative_to_the_file() -> None:
    assert smtp("smtps://h?ca=/etc/ca%20x.pem").ca_file == Path("/etc/ca x.pem")
    assert smtp("smtp://h?ca=ca.pem&tls=required").ca_file == Path("ca.pem").absolute()
    in_file = load_file("EGEC_MAIL_URL=smtp://h?ca=ca.pem").mail_server
    assert isinstance(in_file, SmtpServer)
    assert in_file.ca_file == Path("conf/ca.pem").absolute()


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("smtps://h?tls=required", "has tls=, but smtps:// always uses TLS"),
        ("smtps://h?tls=none", "has tls=, but smtps:// always uses TLS"),
        ("smtp://h?tls=maybe", "has an unknown tls= value (use required or none)"),
        ("smtp://h?tls=implicit", "has an unknown tls= value (use required or none)"),
        ("smtp://h?tls", "has an unknown tls= value (use required or none)"),
        ("smtp://h?timeout=3", "has an unknown option after ? (use tls=, ca= or auth=)"),
        ("smtp://h?ca=x&TLS=none", "has an unknown option after ? (use tls=, ca= or auth=)"),
        ("smtp://u@h?auth=login", "has an unknown auth= value (use oauth)"),
        ("smtp://u@h?auth=", "has an unknown auth= value (use oauth)"),
        ("smtp://h?auth=oauth", "has auth=oauth, but no user name before the @"),
        ("smtp://%01u@h?auth=oauth", "has auth=oauth, but a user name that is not printable ASCII"),
        ("smtp://%C3%A9@h?auth=oauth", "has auth=oauth, but a user name that is not printable ASCII"),
        (f"smtp://u:{SECRET}@h?auth=oauth", "has auth=oauth and a password: remove the password"),
        ("smtp://u@h?auth=oauth&tls=none", "has auth=oauth, which needs TLS: remove tls=none"),
        ("smtp://h:port", NO_URL),
        ("smtp://h:65536", NO_URL),
        ("smtp://h:0", NO_URL),
        ("smtp://h:-1", NO_URL),
        ("smtp://[::1", NO_URL),
        ("smtp://", NO_SMTP_URL),
        ("smtp://h/path", NO_SMTP_URL),
        ("maildir:", "names no folder"),
        ("mail.x.fr", "must begin with smtp://, smtps://, sendmail: or maildir:"),
        ("http://h", "must begin with smtp://, smtps://, sendmail: or maildir:"),
    ],
)
def test_an_invalid_mail_url_is_refused_with_the_reason_and_an_example(url: str, fault: str) -> None:
    assert faults({"EGEC_MAIL_URL": url}) == [
        f"EGEC_MAIL_URL {fault}. Example: EGEC_MAIL_URL=smtp://egec:secret@smtp.example.org:587"
    ]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://u:p%40w@h:5433/d", "postgresql://u:p%40w@h:5433/d"),
        ("postgres://h/d", "postgresql://h/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
    ],
)
def test_a_postgresql_url_is_kept_as_it_is(url: str, kept: str) -> None:
    assert load_settings({"EGEC_DATABASE_URL": url}).database == PostgresqlServer(kept)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("sqlite:", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://x", SLASHES),
        ("sqlite://host/x.db", SLASHES),
        ("sqlite:///x.db?mode=ro", "has a ? in its path, but an SQLite file takes no options"),
        ("postgresql://h:x/d", NO_URL),
        ("mysql://h/d", "must begin with sqlite:/// or postgresql://"),
        ("egec.db", "must begin with sqlite:/// or postgresql://"),
    ],
)
def test_an_invalid_database_url_is_refused_with_the_reason_and_an_example(url: str, fault: str) -> None:
    assert faults({"EGEC_DATABASE_URL": url}) == [
        f"EGEC_DATABASE_URL {fault}. Example: EGEC_DATABASE_URL=sqlite:////var/lib/egec/egec.db"
    ]


# --- logins ---

OAUTH = "smtp://u@mail.x.fr?auth=oauth"
TOKEN_FILE, TOKEN_COMMAND, PASSWORD_COMMAND = (
    "EGEC_MAIL_TOKEN_FILE", "EGEC_MAIL_TOKEN_COMMAND", "EGEC_MAIL_PASSWORD_COMMAND",
)  # fmt: skip


def server_of(environ: dict[str, str], text: str = "") -> SmtpServer:
    server = load_file(text, environ).mail_server
    assert isinstance(server, SmtpServer)
    return server


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        (OAUTH, Tls.STARTTLS),
        ("smtps://u@mail.x.fr?auth=oauth", Tls.IMPLICIT),
        ("smtp://u@localhost?auth=oauth", Tls.NONE),
        ("smtp://u@127.0.0.1?auth=oauth&tls=none", Tls.NONE),
    ],
)
def test_a_token_comes_from_a_command_or_a_file(url: str, tls: Tls) -> None:
    by_command = server_of({"EGEC_MAIL_URL": url, TOKEN_COMMAND: "get-token 'a b' --for=\"x y\""})
    assert (by_command.uses_oauth, by_command.tls, by_command.user) == (True, tls, "u")
    assert by_command.secret == SecretCommand(TOKEN_COMMAND, ("get-token", "a b", "--for=x y"))
    by_file = server_of({"EGEC_MAIL_URL": url, TOKEN_FILE: "/run/token"})
    assert by_file.secret == SecretFile(TOKEN_FILE, Path("/run/token"))


def test_a_password_may_come_from_a_command() -> None:
    server = server_of({"EGEC_MAIL_URL": "smtp://u@h", PASSWORD_COMMAND: "pass show mail"})
    assert (server.uses_oauth, server.password.reveal()) == (False, "")
    assert server.secret == SecretCommand(PASSWORD_COMMAND, ("pass", "show", "mail"))


def test_paths_of_commands_and_token_files_are_relative_to_the_settings_file() -> None:
    in_file = server_of({}, f"EGEC_MAIL_URL={OAUTH}\n{TOKEN_COMMAND}='./bin/token x/y'")
    assert in_file.secret == SecretCommand(TOKEN_COMMAND, (str(Path("conf/bin/token").absolute()), "x/y"))
    in_file = server_of({}, f"EGEC_MAIL_URL={OAUTH}\n{TOKEN_FILE}=token")
    assert in_file.secret == SecretFile(TOKEN_FILE, Path("conf/token").absolute())


def test_the_environment_overrides_the_source_of_the_token_in_the_file() -> None:
    for name, other in ((TOKEN_FILE, TOKEN_COMMAND), (TOKEN_COMMAND, TOKEN_FILE)):
        server = server_of({name: "/run/a"}, f"EGEC_MAIL_URL={OAUTH}\n{other}=/run/b")
        assert server.secret is not None
        assert (server.secret.setting, str(server.secret)) == (name, "/run/a")


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        (
            {"EGEC_MAIL_URL": OAUTH},
            "EGEC_MAIL_URL has auth=oauth, but there is no token. Set EGEC_MAIL_TOKEN_COMMAND or EGEC_MAIL_TOKEN_FILE",
        ),
        (
            {"EGEC_MAIL_URL": OAUTH, TOKEN_FILE: "/a", TOKEN_COMMAND: "/b"},
            "EGEC_MAIL_TOKEN_COMMAND and EGEC_MAIL_TOKEN_FILE are both set. Keep one of them",
        ),
        (
            {"EGEC_MAIL_URL": OAUTH, TOKEN_FILE: "/a", PASSWORD_COMMAND: "/b"},
            "EGEC_MAIL_PASSWORD_COMMAND is set, but EGEC_MAIL_URL has auth=oauth. Unset one of them",
        ),
        (
            {"EGEC_MAIL_URL": f"smtp://u:{SECRET}@h", PASSWORD_COMMAND: "/b"},
            "EGEC_MAIL_PASSWORD_COMMAND is set, and EGEC_MAIL_URL has a password. Remove one of them",
        ),
        (
            {"EGEC_MAIL_URL": "smtp://h", PASSWORD_COMMAND: "/b"},
            "EGEC_MAIL_PASSWORD_COMMAND is set, but EGEC_MAIL_URL has no user name before the @",
        ),
        (
            {"EGEC_MAIL_URL": "smtp://u@h", TOKEN_FILE: "/a"},
            "EGEC_MAIL_TOKEN_FILE is set, but EGEC_MAIL_URL has no auth=oauth. Add it, or unset EGEC_MAIL_TOKEN_FILE",
        ),
    ],
)
def test_contradictions_between_settings_of_a_login_are_faults(environ: dict[str, str], fault: str) -> None:
    assert faults(environ) == [fault]


def test_settings_of_a_login_may_stay_while_mail_is_saved_to_a_folder() -> None:
    environ = {TOKEN_FILE: "/a", PASSWORD_COMMAND: "b"}
    for url in ("maildir:/var/mails", "sendmail:", ""):
        assert not isinstance(load_settings({"EGEC_MAIL_URL": url, **environ}).mail_server, SmtpServer)


NO_SHELL = "is not run by a shell: put variables, pipes and redirections into a script, and name the script"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"'{SECRET}", "has a quote that is not closed"),
        (" ", "names no program"),
        ("''", "names no program"),
        (f"SECRET={SECRET} curl", NO_SHELL),
        (f"curl {SECRET} | head -1", NO_SHELL),
        (f"curl {SECRET} > token", NO_SHELL),
        (f"cd / && echo {SECRET}", NO_SHELL),
        (f"a\0{SECRET}", "has a NUL character or bytes that are not UTF-8"),
        (f"a \ud800{SECRET}", "has a NUL character or bytes that are not UTF-8"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", [TOKEN_COMMAND, PASSWORD_COMMAND])
def test_an_invalid_command_is_refused_and_not_quoted(name: str, text: str, fault: str) -> None:
    example = next(setting.example for setting in SETTINGS if setting.name == name)
    assert faults({name: text}) == [f"{name} {fault}. Example: {name}={example}"]


def test_a_token_itself_is_not_a_setting() -> None:
    [fault] = faults({}, f"EGEC_MAIL_TOKEN={SECRET}")
    assert fault.startswith("unknown setting EGEC_MAIL_TOKEN")
    assert SECRET not in fault


def test_the_arguments_of_a_command_are_never_shown() -> None:
    for name, url in ((TOKEN_COMMAND, OAUTH), (PASSWORD_COMMAND, "smtp://u@h")):
        reading = read_settings({"EGEC_MAIL_URL": url, name: f"/bin/curl {SECRET}"})
        assert SECRET not in f"{reading!r} {reading} {reading.settings.mail_server!r}"
        assert reading.sources[name] == ("the environment", "")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_warning_names_a_token_file_that_all_users_can_read(mode: int, warned: bool) -> None:
    path = written(Path("token").absolute(), SECRET)
    path.chmod(mode)
    warnings = load_settings({"EGEC_MAIL_URL": OAUTH, TOKEN_FILE: str(path)}).warnings
    assert [one.what for one in warnings] == ([f"{path} holds a secret and can be read by others"] if warned else [])


# --- other values ---


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("EGEC_BCRYPT_COST", "4", "bcrypt_cost", 4),
        ("EGEC_BCRYPT_COST", "16", "bcrypt_cost", 16),
        ("EGEC_MAIL_TIMEOUT", "3600", "mail_timeout", 3600),
        ("EGEC_MAIL_TIMEOUT", "45", "mail_final_timeout", 45),
        ("EGEC_MAIL_RATE", "20", "mail_rate", (Limit(20, 1),)),
        ("EGEC_MAIL_RATE", "20/s", "mail_rate", (Limit(20, 1),)),
        ("EGEC_MAIL_RATE", "30/min", "mail_rate", (Limit(30, 60),)),
        (
            "EGEC_MAIL_RATE",
            "10000/d, 500 / h,30/min",
            "mail_rate",
            (Limit(30, 60), Limit(500, 3600), Limit(10_000, 86_400)),
        ),
        ("EGEC_MAIL_RATE", "0", "mail_rate", ()),
        ("EGEC_MAIL_RESERVE", "0", "mail_reserve", 0),
        ("EGEC_MAIL_RESERVE", "90", "mail_reserve", 90),
        ("EGEC_UNUSED_PASSWORD_DAYS", "0", "unused_password_days", 0),
        ("EGEC_LANGUAGE", "en", "language", "en"),
        ("EGEC_TIMEZONE", "Indian/Reunion", "timezone", "Indian/Reunion"),
        ("EGEC_TIMEZONE", "America/Argentina/Buenos_Aires", "timezone", "America/Argentina/Buenos_Aires"),
        ("EGEC_TIMEZONE", "UTC", "timezone", "UTC"),
        ("EGEC_PASSWORD_LOOKALIKES", "Yes", "alphabet", Alphabet.create(lookalikes=True)),
        ("EGEC_PASSWORD_LOOKALIKES", "1", "alphabet", Alphabet.create(lookalikes=True)),
        ("EGEC_PASSWORD_LOOKALIKES", "FALSE", "alphabet", Alphabet.create()),
        ("EGEC_PASSWORD_SPECIALS", "$&@", "alphabet", Alphabet.create("$&@")),
        ("EGEC_MAIL_FROM", "Société d'Été <a@Straße.de>", "mail_from", "Société d'Été <a@Straße.de>"),
        ("EGEC_MAIL_REPLY_TO", "it@x.fr", "mail_reply_to", "it@x.fr"),
        ("EGEC_SUPPORT", "[/] $x =1", "support", "[/] $x =1"),
    ],
)
def test_a_value_is_parsed(name: str, text: str, attribute: str, value: object) -> None:
    assert getattr(load_settings({name: text}), attribute) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0", "0"), ("5", "5/s"), ("500/h,30/min", "30/min,500/h"), ("1/d , 1/h,1/min,1", "1/s,1/min,1/h,1/d")],
)
def test_quotas_are_written_as_they_are_read(text: str, shown: str) -> None:
    assert format_rate(parse_rate(text)) == shown
    assert parse_rate(shown) == parse_rate(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("30/minute", "30/min"),
        (" 30 / min ", "30/min"),
        ("30/MIN,500/hour", "30/min,500/h"),
        ("20/sec", "20/s"),
        ("500/heure, 10000/j", "500/h,10000/d"),
        ("10000/day", "10000/d"),
    ],
)
def test_units_may_be_words(text: str, rate: str) -> None:
    assert format_rate(parse_rate(text)) == rate


@pytest.mark.parametrize("name", ["EGEC_MAIL_RATE", "EGEC_FAILURES_PER_ORIGIN"])
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("30/m ", "has an unknown unit m (did you mean min?)"),
        ("30min", "needs a slash before the unit (did you mean 30/min?)"),
        ("500/h,30 min", "needs a slash before the unit (did you mean 30/min?)"),
        ("30/week", "has an unknown unit week: use s, min, h or d"),
    ],
)
def test_a_limit_that_is_nearly_right_is_refused_with_what_is_meant(name: str, text: str, fault: str) -> None:
    assert fault in faults({name: text})[0]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("EGEC_BCRYPT_COST", "3", "must be a whole number from 4 to 16"),
        ("EGEC_BCRYPT_COST", "17", "must be a whole number from 4 to 16"),
        ("EGEC_BCRYPT_COST", "\uff11\uff12", "must be a whole number from 4 to 16"),
        ("EGEC_BCRYPT_COST", " 12", "must be a whole number from 4 to 16"),
        ("EGEC_MAIL_TIMEOUT", "0", "must be a whole number from 1 to 3600"),
        ("EGEC_MAIL_TIMEOUT", "1.5", "must be a whole number from 1 to 3600"),
        ("EGEC_MAIL_TIMEOUT", "9" * 5000, "must be a whole number from 1 to 3600"),
        ("EGEC_MAIL_RATE", "0/min", "must allow from 1 to 1000000 mails per min; 0 alone = no limit"),
        ("EGEC_MAIL_RATE", "1000001", "must allow from 1 to 1000000 mails per s; 0 alone = no limit"),
        ("EGEC_MAIL_RATE", "30/min,40/min", "has two quotas per min"),
        ("EGEC_MAIL_RATE", "5,6/s", "has two quotas per s"),
        *(
            ("EGEC_MAIL_RATE", text, NO_RATE)
            for text in ("-1", "1.5/s", "30/", "/h", "30/min,", "\uff11", "30 per min")
        ),
        ("EGEC_MAIL_CONNECTIONS", "65", "must be a whole number from 1 to 64"),
        ("EGEC_WORKERS", "257", "must be a whole number from 1 to 256"),
        ("EGEC_MAIL_PASSWORD_COMMAND", "pass \ud800", "has a NUL character or bytes that are not UTF-8"),
        ("EGEC_MAIL_RESERVE", "91", "must be a whole number from 0 to 90"),
        ("EGEC_UNUSED_PASSWORD_DAYS", "-1", "must be a whole number from 0 to 3650"),
        ("EGEC_LANGUAGE", "FR", "must be one of fr, en"),
        ("EGEC_TIMEZONE", "Europe/Pariss", "is not a known time zone (did you mean Europe/Paris?)"),
        ("EGEC_TIMEZONE", "europe/paris", "is not a known time zone (did you mean Europe/Paris?)"),
        ("EGEC_TIMEZONE", "Paris", "is not a known time zone (did you mean Europe/Paris?)"),
        ("EGEC_TIMEZONE", "New York", "is not a known time zone (did you mean America/New_York?)"),
        ("EGEC_TIMEZONE", "utc", "is not a known time zone (did you mean UTC?)"),
        ("EGEC_TIMEZONE", "CET", "is not a known time zone: write UTC, or a region and a city"),
        ("EGEC_TIMEZONE", "Mars/Olympus_Mons", "is not a known time zone: write UTC, or a region and a city"),
        ("EGEC_TIMEZONE", "Europe", "is not a known time zone: write UTC, or a region and a city"),
        ("EGEC_TIMEZONE", "/etc/localtime", "is not a known time zone: write UTC, or a region and a city"),
        ("EGEC_TIMEZONE", "../../etc/passwd", "is not a known time zone: write UTC, or a region and a city"),
        ("EGEC_TIMEZONE", "Europe/../Paris", "is not a known time zone (did you mean Europe/Paris?)"),
        ("EGEC_TIMEZONE", "right/Europe/Paris", "is not a known time zone (did you mean Europe/Paris?)"),
        ("EGEC_TIMEZONE", "\ud800", "is not a known time zone: write UTC, or a region and a city"),
        ("EGEC_TIMEZONE", "Z" * 100_000, "is not a known time zone: write UTC, or a region and a city"),
        ("EGEC_PASSWORD_LOOKALIKES", "oui", "must be yes or no"),
        ("EGEC_PASSWORD_SPECIALS", "é", "is refused: 'é' cannot be a special character of a password"),
        ("EGEC_PASSWORD_SPECIALS", "##", "is refused: a special character is given twice"),
        ("EGEC_MAIL_FROM", "eGEC", "is not a valid e-mail address"),
        ("EGEC_MAIL_FROM", "a@x.fr, b@x.fr", "is not a valid e-mail address"),
        ("EGEC_MAIL_FROM", "a\n@x.fr", "has a line break or another control character"),
        ("EGEC_MAIL_REPLY_TO", "=?utf-8?q?x?= <a@x.fr>", "has =?, which mail programs take for an encoded word"),
        ("EGEC_APP_NAME", "a\r\nBcc: b@x.fr", "has a line break or another control character"),
        ("EGEC_APP_URL", "\x1b[31m", "has a line break or another control character"),
        ("EGEC_SUPPORT", "\u202e", "has a line break or another control character"),
        ("EGEC_APP_NAME", "\ud800", "has a line break or another control character"),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_an_invalid_value_is_reported_with_its_name_and_an_example(name: str, text: str, fault: str) -> None:
    example = next(setting.example for setting in SETTINGS if setting.name == name)
    assert faults({name: text}) == [f"{name} {fault}. Example: {name}={example}"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("own", "names .*, which is not a folder"),
        ("x" * 5000, "names .*, which is not a folder"),
        ("a\0b", "has a NUL character or bytes that are not UTF-8"),
        ("\ud800", "has a NUL character or bytes that are not UTF-8"),
    ],
    ids=lambda text: ascii(text[:9]),
)
def test_templates_outside_a_folder_are_a_fault(name: str, fault: str) -> None:
    written(Path("own"), "a file")
    assert re.fullmatch(rf"EGEC_TEMPLATES {fault}\. Example: .*", faults({"EGEC_TEMPLATES": name})[0])


PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize("ending", ["\n", "\r\n", " "])
def test_a_signing_key_may_have_lines_or_be_one_line_or_be_in_a_file(ending: str) -> None:
    pem, selector = PEM.replace("\n", ending), "EGEC_DKIM_SELECTOR=a.b-1"
    written(Path("conf/dkim.pem"), f"{pem}{ending}")
    for text in (
        f"EGEC_DKIM_KEY='{pem}'\n{selector}",
        f'EGEC_DKIM_KEY="{pem}"\n{selector}',
        f"EGEC_DKIM_KEY_FILE=dkim.pem\n{selector}",
    ):
        found = load_file(text)
        assert found.dkim is not None
        assert found.dkim.private.reveal().split() == PEM.split()
        assert found.dkim.selector == "a.b-1"
        assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "key",
    [
        SECRET,
        PEM[:-1],
        PEM[1:],
        PEM.replace("PRIVATE", "PUBLIC"),
        PEM.replace("END PRIVATE", "END RSA PRIVATE"),
        f"{PEM}{PEM}x",
    ],
    ids=ascii,
)
def test_a_key_that_is_not_in_pem_form_is_a_fault_and_is_not_quoted(key: str) -> None:
    [fault] = faults({"EGEC_DKIM_KEY": key, "EGEC_DKIM_SELECTOR": "mail2026"})
    assert fault.startswith("EGEC_DKIM_KEY must be a private key in PEM form. Example: EGEC_DKIM_KEY=-----BEGIN")
    assert SECRET not in fault


@pytest.mark.parametrize("selector", ["a_b", "-a", "a-", "a..b", ".a", "a b", "é", "a" * 64, "a;b", 'a"'])
def test_a_selector_that_is_not_a_dns_name_is_a_fault(selector: str) -> None:
    [fault] = faults({"EGEC_DKIM_KEY": PEM, "EGEC_DKIM_SELECTOR": selector})
    assert fault.startswith("EGEC_DKIM_SELECTOR must be a selector: ")


def test_a_key_without_its_selector_is_a_fault_and_so_is_a_selector_without_its_key() -> None:
    [fault] = faults({"EGEC_DKIM_KEY": PEM})
    assert fault.startswith("EGEC_DKIM_SELECTOR is missing, but EGEC_DKIM_KEY needs it.")
    assert SECRET not in fault
    [fault] = faults({"EGEC_DKIM_SELECTOR": "a"})
    assert fault.startswith("EGEC_DKIM_KEY is missing, but EGEC_DKIM_SELECTOR needs it.")
    assert load_settings({}).dkim is None


def test_a_warning_names_a_file_with_a_key_that_others_can_read() -> None:
    path = written(Path("conf/egec.env").absolute(), f"EGEC_DKIM_KEY='{PEM}'\nEGEC_DKIM_SELECTOR=a\n")
    path.chmod(0o644)
    [warning] = load_settings({ENV_FILE_VARIABLE: str(path)}).warnings
    assert warning == (f"{path} holds a secret and can be read by others", f"Type: chmod 600 {path}")


def test_fewer_than_50_bits_are_a_fault() -> None:
    assert faults({"EGEC_PASSWORD_SPECIALS": "#"})[0].startswith(
        "EGEC_PASSWORD_SPECIALS is refused: passwords of these characters would have 49.4 bits of entropy"
    )


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("0", ()),
        ("10/h", (Limit(10, 3600),)),
        ("1/5min,5/d", (Limit(1, 300), Limit(5, 86_400))),
        ("1/5minutes, 5/day", (Limit(1, 300), Limit(5, 86_400))),
        (" 1000/31d , 3/30s", (Limit(1000, 31 * 86_400), Limit(3, 30))),
    ],
)
def test_limits_are_numbers_per_period(text: str, limits: tuple[Limit, ...]) -> None:
    assert load_settings({"EGEC_REQUESTS_PER_CLIENT": text}).requests_per_client == limits


@pytest.mark.parametrize(
    "text", ["10", "h", "10/", "10/h,", "-1/h", "1/5", "ten/h", "\u0661/h", "1/h;5/d", "1/12345min"]
)
def test_other_limits_are_refused_with_the_form(text: str) -> None:
    [fault] = faults({"EGEC_FAILURES_PER_ORIGIN": text})
    assert "must be limits such as 1/5min,5/d" in fault


@pytest.mark.parametrize("text", ["0/h", "1001/d", "5/0h", "5/32d", "1/h,0/d"])
def test_limits_beyond_the_possible_are_refused(text: str) -> None:
    [fault] = faults({"EGEC_REQUESTS_PER_ORIGIN": text})
    assert "must limit to 1 to 1000 per period" in fault
