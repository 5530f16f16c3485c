"""Every environment variable of `egec`: its parser, default, example and meaning.

The settings are grouped as in the manual and in `.env.example`, which tests compare with these groups.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from egec_cli.password import DEFAULT_SPECIALS
from egec_cli.settings import parsing, types
from egec_cli.translation import Words

PREFIX = "EGEC_"


class Setting(NamedTuple):
    """One environment variable.

    Attributes:
        parse: makes the value of its text and the folder that relative paths start at; raises `parsing.Fault`
            or `InvalidInput` with what is wrong.
        default: the text that is parsed if the variable is not set, or `Words` that describe the default.
        secret: the value may hold a password, so it may also come from the file that `NAME_FILE` names.
        hidden: the value is not shown, since it may hold a secret although it should not.
    """

    name: str
    parse: Callable[[str, parsing.Folder], Any]
    default: str
    example: str
    meaning: str
    secret: bool = False
    hidden: bool = False


NEEDED_BY_EVERYONE: tuple[Setting, ...] = (
    Setting(
        "EGEC_DATABASE_URL",
        parsing.parse_database,
        Words("an SQLite file in the user's data folder"),
        "sqlite:////var/lib/egec/egec.db",
        "The database of client records: `sqlite:///PATH` or `postgresql://USER@HOST/NAME`.",
        secret=True,
    ),
    Setting(
        "EGEC_MAIL_URL",
        parsing.parse_mail_server,
        Words("a Maildir in the user's data folder, until the database has had a mail server"),
        "smtp://egec:secret@smtp.example.org:587",
        "Where mail is sent: `smtp://` (STARTTLS), `smtps://`, `sendmail:` or `maildir:PATH`.",
        secret=True,
    ),
    Setting(
        "EGEC_MAIL_FROM",
        parsing.parse_mail_address,
        "eGEC <ne-pas-repondre@egec.pro>",
        "eGEC <ne-pas-repondre@egec.pro>",
        "The sender of the mails; its domain is also that of their Message-IDs.",
    ),
    Setting(
        "EGEC_SUPPORT",
        parsing.parse_line,
        "Service IT",
        "Service IT (01 23 45 67 89)",
        "The contact for clients, in the mails.",
    ),
)

OFTEN_USEFUL: tuple[Setting, ...] = (
    Setting("EGEC_APP_NAME", parsing.parse_line, "eGEC", "eGEC", "The name of the application in the mails."),
    Setting(
        "EGEC_APP_URL",
        parsing.parse_line,
        "www.egec.pro",
        "www.egec.pro",
        "The address of the application in the mails.",
    ),
    Setting(
        "EGEC_LANGUAGE",
        parsing.parse_language,
        "fr",
        "fr",
        "The language of clients without one of their own, and of the refusal at login: `fr` or `en`.",
    ),
    Setting(
        "EGEC_TIMEZONE",
        parsing.parse_timezone,
        types.DEFAULT_TIMEZONE,
        "Europe/Paris",
        "The time zone of days and times in mails, options and tables: a region and a city, or `UTC`.",
    ),
    Setting(
        "EGEC_TEMPLATES",
        parsing.parse_existing_folder,
        Words("the built-in ones"),
        "/etc/egec/templates",
        "A folder whose templates replace the built-in ones of the same file name.",
    ),
    Setting(
        "EGEC_MAIL_PASSWORD_COMMAND",
        parsing.parse_command,
        Words("none"),
        "pass show mail/egec",
        "A program that prints the password for the mail server, instead of one in `EGEC_MAIL_URL`.",
        hidden=True,
    ),
    Setting(
        "EGEC_MAIL_TOKEN_COMMAND",
        parsing.parse_command,
        Words("none"),
        "/etc/egec/mail-token",
        "A program that prints an access token for the mail server, for `auth=oauth` in `EGEC_MAIL_URL`.",
        hidden=True,
    ),
    Setting(
        "EGEC_MAIL_TOKEN_FILE",
        parsing.parse_file,
        Words("none"),
        "/run/egec/mail-token",
        "A file with the access token, which another program renews; it is read for each login.",
    ),
    Setting(
        "EGEC_MAIL_REPLY_TO",
        parsing.parse_mail_address,
        Words("none"),
        "service-it@egec.pro",
        "The address for replies, although the mail says that replies are not read.",
    ),
    Setting(
        "EGEC_MAIL_BOUNCES",
        parsing.parse_bounces_address,
        Words("the sender's"),
        "ne-pas-repondre@egec.pro",
        "The address for delivery reports; each mail adds `+` and its own mark before the `@`.",
    ),
    Setting(
        "EGEC_MAIL_RATE",
        parsing.parse_rate,
        "0",
        "30/min,500/h,10000/d",
        "Maximum mails per `s`, `min`, `h` or `d`, across all mails of the database; 0 = no limit.",
    ),
    Setting(
        "EGEC_MAIL_RESERVE",
        parsing.number_parser(0, 90),
        "10",
        "10",
        "Percent of the quotas per hour and day that runs leave for single activations.",
    ),
    Setting(
        "EGEC_MAIL_RETRY_HOURS",
        parsing.number_parser(1, 240),
        "24",
        "24",
        "Hours for which a run retries a mail that the mail server defers.",
    ),
    Setting(
        "EGEC_DKIM_KEY",
        parsing.parse_private_key,
        Words("none"),
        "-----BEGIN PRIVATE KEY----- MIIEvQIBADANBgkq... -----END PRIVATE KEY-----",
        "The RSA key, in PEM form, that signs mails (DKIM), if the mail server does not sign them.",
        secret=True,
    ),
    Setting(
        "EGEC_DKIM_SELECTOR",
        parsing.parse_selector,
        Words("none"),
        "mail2026",
        "The name of the public key in the DNS: `SELECTOR._domainkey.` and the sender's domain.",
    ),
    Setting(
        "EGEC_UNUSED_PASSWORD_DAYS",
        parsing.number_parser(0, 3650),
        "30",
        "30",
        "Days after which an unused password expires; 0 = never.",
    ),
    Setting(
        "EGEC_AUDIT_DAYS",
        parsing.number_parser(0, 36_500),
        "365",
        "365",
        "Days of events that `egec audit prune` keeps; 0 = all.",
    ),
    Setting(
        "EGEC_REQUESTS_PER_CLIENT",
        parsing.parse_limits,
        "1/5min,5/d",
        "1/5min,5/d",
        "Activation requests of a portal that count for one client; further ones change nothing. 0 = no limit.",
    ),
    Setting(
        "EGEC_REQUESTS_PER_ORIGIN",
        parsing.parse_limits,
        "10/h",
        "10/h",
        "The same for the network of the requester: an IPv4 /24 or an IPv6 /64.",
    ),
    Setting(
        "EGEC_REQUEST_DISCLOSES",
        parsing.parse_yes_or_no,
        "yes",
        "no",
        "Whether a portal may learn that an e-mail is unknown: `yes`, or `no` = the same answer for every address.",
    ),
    Setting(
        "EGEC_SHARED_EMAIL",
        parsing.parse_yes_or_no,
        "no",
        "yes",
        "Whether several clients may have the same e-mail: `yes` or `no`.",
    ),
    Setting(
        "EGEC_FAILURES_PER_ORIGIN",
        parsing.parse_limits,
        "30/h",
        "30/h",
        "Failed logins from one network, over all accounts, until its logins are refused unchecked. 0 = no limit.",
    ),
    Setting(
        "EGEC_BLOCK_HOURS",
        parsing.number_parser(0, 8760),
        "0",
        "24",
        "Hours until a block after ten failed logins ends; 0 = only by a new password or `client unblock`.",
    ),
    Setting(
        "EGEC_LOG",
        parsing.parse_log_style,
        Words("none"),
        "json",
        "Write each act to stderr, as one line: `text` or `json`. `--verbose` does so too, by default as `text`.",
    ),
)

FOR_EXPERTS: tuple[Setting, ...] = (
    Setting(
        "EGEC_BCRYPT_COST",
        parsing.number_parser(4, 16),
        "12",
        "12",
        "The cost of password hashes: each step doubles the time. Below 10 for tests only.",
    ),
    Setting(
        "EGEC_WORKERS",
        parsing.number_parser(1, 256),
        Words("the number of CPU cores"),
        "4",
        "The number of passwords that a run hashes in parallel.",
    ),
    Setting(
        "EGEC_MAIL_CONNECTIONS",
        parsing.number_parser(1, 64),
        "4",
        "4",
        "The number of connections to the mail server that a run keeps open.",
    ),
    Setting(
        "EGEC_MAIL_TIMEOUT",
        parsing.number_parser(1, 3600),
        Words("60, and 600 for the answer to a mail"),
        "60",
        "Maximum time for each complete answer of the mail server, in seconds.",
    ),
    Setting(
        "EGEC_PASSWORD_SPECIALS",
        parsing.parse_specials,
        DEFAULT_SPECIALS,
        DEFAULT_SPECIALS,
        "The special characters of passwords: ASCII punctuation, each once.",
    ),
    Setting(
        "EGEC_PASSWORD_LOOKALIKES",
        parsing.parse_yes_or_no,
        "no",
        "no",
        "Whether passwords may have `0 O 1 l I`: `yes` or `no`.",
    ),
)

SETTINGS = (*NEEDED_BY_EVERYONE, *OFTEN_USEFUL, *FOR_EXPERTS)
