"""Tell from a mail server's answer why it refused a mail: because of the recipient, our speed, or ourselves.

The reply code (RFC 5321) says too little: 450 means a greylist, a full mailbox or a quota. The enhanced status code
(RFC 3463) says more, but many servers send none or a general one. So `RULES` look at the stage, both codes and the
words. The first rule that fits decides. The last rules fit by stage alone, so one always fits.

The server we talk to is a relay as a rule, not that of the recipient. It may ask the recipient's server at once and
pass on its answer, so the words of both occur.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from egec_cli.mail.transports.interface import LONGEST, Cause, split_reply


class Stage(StrEnum):
    """The step of the SMTP dialogue that was refused."""

    GREETING = "greeting"
    HELLO = "hello"  # EHLO and STARTTLS
    LOGIN = "login"
    SENDER = "sender"  # MAIL
    RECIPIENT = "recipient"  # RCPT
    DATA = "data"
    MESSAGE = "message"  # the answer to the final dot


_ANY = frozenset(Stage)
_CONNECTING = frozenset({Stage.GREETING, Stage.HELLO, Stage.LOGIN})
_OPENING = _CONNECTING | {Stage.SENDER}
# From here on, an answer may be about the recipient.
_MAILING = frozenset({Stage.RECIPIENT, Stage.DATA, Stage.MESSAGE})
_RECIPIENT = frozenset({Stage.RECIPIENT})


class Rule(NamedTuple):
    """Answers with the same cause. A pattern that is left out fits every answer.

    Attributes:
        cause: why the server refused.
        source: where these answers are documented.
        stages: the stages at which they occur.
        codes: a pattern of the whole reply code.
        status: a pattern of the enhanced status code without its first digit, such as `7.1`.
        words: a pattern that occurs in the text, in any case; addresses are taken out before.
    """

    cause: Cause
    source: str
    stages: frozenset[Stage] = _ANY
    codes: str = ""
    status: str = ""
    words: str = ""

    def fits(self, stage: Stage, code: int, status: str, words: str) -> bool:
        """Return whether an answer is one of these."""
        return (
            stage in self.stages
            and (not self.codes or re.fullmatch(self.codes, str(code)) is not None)
            and (not self.status or re.fullmatch(self.status, status) is not None)
            and (not self.words or re.search(self.words, words, re.IGNORECASE) is not None)
        )


_FOR_NOW, _FOR_GOOD = r"4\d\d", r"5\d\d"

_GREYLIST = r"gr[ae]y[ -]?list|postgrey|not yet authorized to deliver"

_TIMED_OUT_OR_ENDING = r"time-?d? ?-?out|shutting down|shutdown in progress"

_OF_A_RECIPIENT = (
    r"user (is )?(unknown|inconnu|not found|does not exist|doesn't exist|over|inactive)"
    r"|(unknown|no such|invalid|unrouteable|undeliverable) (user|recipient|mailbox|account|address|local part)"
    r"|(adressee?|addressee|adresse|recipient|destinataire|benutzer|empf.{1,2}nger)\b.{0,30}"
    r"(unknown|inconnu|invalid|unbekannt|nicht bekannt|inactive|not exist|archiv|over ?quota|not in)"
    r"|no (such )?(mailbox|user|account) (here|by|with)"
    r"|(mailbox|mail box|inbox|maildir|bo[iî]te)\b.{0,40}(full|pleine|not found|disabled|inactiv|blocked|"
    r"does not exist|doesn't exist|quota|size limit|out of storage|unallocated|over)"
    r"|(account|compte)\b(?<!your account).{0,60}(does not exist|doesn't exist|disabled|discontinued)"
    r"|(account|compte)\b(?<!your account).{0,60}(inactive|closed|over quota)"
    r"|(this )?user doesn't have a .{1,40} account|not our customer|is no longer valid"
    r"|user (quota|is overquota|over quota|has exhausted|has too many messages)|recipient overquota"
    r"|exceeded storage allocation|over (storage )?quota"
)

# The recipient gets too much mail from everybody.
_RECEIVES_TOO_MUCH = (
    r"receiving mail (too quickly|at a rate)|recipient (has exceeded|thread limit)|to this recipient"
    r"|(deferred|rejected) by the recipient|(recipient|user) (has )?blocked (you|this sender|your)"
)

_CONNECTION_LIMIT = (
    r"too many ([a-z]+ ){0,3}(connections|sessions)\b|concurren(t|cy)\b|trop de connexions"
    r"|connections? (rate )?limit|limit (of|on) connections|(maximum|max\.?) (number of )?([a-z]+ )?connections"
    r"|sender thread limit|ports are busy"
)

_SENT_TOO_MUCH = (
    r"too many (?!hops|received)|too much mail|too fast|too quickly|throttl|slow(ed|ing)? down|more slowly"
    r"|\brate[- ]?limit|ratelimit|\brate\b.{0,60}(exceed|limit|reach)|(unusual|exceed\w*).{0,40}\brate\b"
    r"|(excessive|unexpected) volume|frequency limited"
    r"|(limit|quota)\b.{0,60}(exceeded|reached)|reached .{0,40}\b(limit|quota)"
    r"|exceed\w*\b.{0,60}(limit|quota|per (minute|hour|day))"
    r"|(per|only \d+ \w+ per) (minute|hour|day)|quota d[eé]pass"
)

_ABOUT_THE_SIZE = r"(message|mail) (file )?(is )?too (large|big)|(message|mail) size|taille limite"

# Words of a block, on a list or by a server's own judgement.
_BLOCK = (
    r"spamhaus|spamcop|cloudmark|barracuda(central)?|abusix|\bsorbs\b|uceprotect|manitu|\bdnsbl|\brbl\b"
    r"|(black|block|deny)[ -]?list|\blisted (in|at|by|on)\b|\bblock(ed|s)?\b|block for spam|bloqu|gesperrt"
    r"|banned|reputation|spammer|spamming|spam abuse|suspected spam sender|suspicious"
    r"|originating from your|your account|service refus|connections? (not|will not be) accepted|client host rejected"
)

# Words about our server, sender or login.
_ABOUT_US = (
    r"\bspf\b|\bdkim\b|\bdmarc\b|unauthenticated|not (allowed|permitted|authori[sz]ed) to (send|relay)"
    r"|does(n't| not) allow sending|(send|relay) (mail )?as this sender|spoof"
    r"|authenti(fi)?cation (is )?(required|requise|invalide)|authenticate first|need.{0,20}\bauth\b|not authenticated"
    r"|\bptr\b|reverse[ -]?(dns|hostname)|find your (reverse )?hostname|\bhelo\b|\behlo\b"
    r"|relay(ing)? (access )?(denied|disallowed|prohibited|not)|not permitted to relay|unable to relay|as a relay"
    r"|email address is not verified|sender (address )?(rejected|denied|invalid|verif|not|is not)"
    r"|invalid sender|[eé]metteur invalide"
    r"|(bad|banned) (outbound )?sender|sender verif|not owned by|sender domain|from domain"
    r"|(sending|source|your) (ip|domain|server|host)\b|\bip\b.{0,30}(block|reject|refus|denied|not in whitelist)"
)

_ABOUT_A_POLICY = r"polic(y|ies)|access denied|prohibit|spam|virus|content (denied|rejected)|not allowed"

RULES = (
    # The login, wherever it is asked for.
    Rule(Cause.BLOCKED, "RFC 4954, 6", codes="530|534|535|538"),
    # Greylisting concerns one sender, recipient and address at a time, and ends on its own.
    Rule(Cause.RECIPIENT, "RFC 6647; postgrey, milter-greylist, rspamd, Exim", codes=_FOR_NOW, words=_GREYLIST),
    # About the recipient.
    Rule(Cause.RECIPIENT, "Gmail, Microsoft 365: limits of the recipient", _MAILING, words=_RECEIVES_TOO_MUCH),
    Rule(
        Cause.RECIPIENT,
        "Orange and La Poste: 416, 418 unknown; 417 full; 420 archived; 426 blocked",
        _MAILING,
        words=r"\b(OFR|LPN)[ _]?(\d{3}[-_ ])?(416|417|418|420|426)\b",
    ),
    Rule(Cause.RECIPIENT, "RFC 3463, 3.2", _MAILING, status=r"1\.([1-46]|10)|2\.2"),
    Rule(Cause.RECIPIENT, "RFC 3463, 3.3", _MAILING, _FOR_GOOD, r"2\.[134]"),
    Rule(Cause.RECIPIENT, "Microsoft 365: restricted recipients", _MAILING, _FOR_GOOD, r"7\.1(2[0-9]|3[0-6])"),
    Rule(Cause.RECIPIENT, "many: a full, disabled or unknown mailbox", _MAILING, words=_OF_A_RECIPIENT),
    # Too many connections, not too many mails.
    Rule(
        Cause.CONNECTIONS,
        "Postfix anvil(8), Exim smtp_accept_max, Orange OFR004_104, Microsoft 365 4.3.2",
        words=_CONNECTION_LIMIT,
    ),
    # The connection ended, and so nothing is said about the mail.
    Rule(Cause.UNREACHABLE, "RFC 5321, 3.8", _OPENING, "421", words=_TIMED_OUT_OR_ENDING),
    Rule(Cause.UNREACHABLE, "RFC 3463, 3.5", _OPENING, "421", r"4\.2"),
    Rule(Cause.DROPPED, "RFC 5321, 3.8", _MAILING, "421", words=_TIMED_OUT_OR_ENDING),
    Rule(Cause.DROPPED, "RFC 3463, 3.5", _MAILING, "421", r"4\.2"),
    # Blocks with a code of their own.
    Rule(
        Cause.BLOCKED,
        "Microsoft 365: 5.1.8, 5.7.5xx-5.7.7xx: our account, organisation or address is blocked",
        codes=_FOR_GOOD,
        status=r"1\.[78]|7\.(5\d\d|6\d\d|70\d|750)",
    ),
    Rule(
        Cause.BLOCKED,
        "Orange and La Poste: 102, 103 address; 305, 402 login; 401, 517 SPF, DMARC; 403, 405, 415, 421 sender; "
        "506, 510, 513, 999 reputation",
        codes=_FOR_GOOD,
        words=r"\b(OFR|LPN)[ _]?(\d{3}[-_ ])?(102|103|305|401|402|403|405|415|421|506|510|513|517|999)\b",
    ),
    Rule(Cause.BLOCKED, "RFC 1870, 6.1; RFC 3463, 3.4: no mail of this size", codes=_FOR_GOOD, status=r"3\.4"),
    Rule(Cause.BLOCKED, "RFC 1870, 6.1: no mail of this size", codes="552|554", words=_ABOUT_THE_SIZE),
    # Too many mails.
    Rule(Cause.RECIPIENT, "Ionos: a full mailbox", _MAILING, _FOR_GOOD, words=r"^\W*quota (is )?exceeded"),
    Rule(
        Cause.THROTTLED,
        "Gmail 4.7.28, 5.4.5; Microsoft 365 5.1.90; SES 454; Postfix anvil(8); cPanel; Ionos; mailcow; OVH",
        words=_SENT_TOO_MUCH,
    ),
    # A server may greylist without the word.
    Rule(
        Cause.RECIPIENT,
        "postgrey, sqlgrey, Exim",
        _MAILING,
        _FOR_NOW,
        r"|2\.0|7\.[01]",
        r"(try|come back|retry)\b.{0,30}\b(in|after) \d+ ?(s|sec|seconds|m|min|minutes)\b",
    ),
    # Blocks by their words.
    Rule(Cause.BLOCKED, "Spamhaus and other block lists; Gmail; Outlook; Free; Yahoo", codes=_FOR_GOOD, words=_BLOCK),
    Rule(Cause.BLOCKED, "Postfix access(5); Exim; RFC 7208, 8.4; RFC 7489, 10.3", words=_ABOUT_US),
    Rule(Cause.BLOCKED, "Spamhaus and other block lists", codes=_FOR_NOW, status=r"7\.\d+", words=r"blocked using"),
    Rule(Cause.BLOCKED, "RFC 3463, 3.2: our address is faulty", codes=_FOR_NOW, status=r"1\.[78]"),
    # By status.
    Rule(Cause.THROTTLED, "RFC 3463, 3.8: a policy, for now", codes=_FOR_NOW, status=r"7\.\d+"),
    Rule(Cause.THROTTLED, "RFC 3463, 3.4 and 3.6: full, closed, too many", codes=_FOR_NOW, status=r"3\.[12]|5\.3"),
    Rule(Cause.UNCLEAR, "RFC 3463, 3.4: the state of a server, ours or another", _MAILING, _FOR_NOW, r"3\.\d+"),
    # By stage.
    Rule(Cause.THROTTLED, "RFC 5321, 3.8", codes="421"),
    Rule(Cause.UNREACHABLE, "RFC 3207, 4: no TLS at present", frozenset({Stage.HELLO}), "454"),
    Rule(Cause.THROTTLED, "RFC 5321, 4.2.3; RFC 4954, 6", codes="452|454"),
    Rule(Cause.UNREACHABLE, "RFC 5321, 4.2", _CONNECTING, _FOR_NOW),
    Rule(Cause.BLOCKED, "RFC 5321, 4.2", _OPENING, _FOR_GOOD),
    Rule(Cause.UNCLEAR, "RFC 5321, 4.3.2: commands out of order or unknown", _RECIPIENT, "50[0234]"),
    Rule(Cause.UNCLEAR, "RFC 3463, 3.8", _RECIPIENT, _FOR_GOOD, r"7\.\d+"),
    Rule(Cause.UNCLEAR, "GMX, Mimecast, Exim", _RECIPIENT, _FOR_GOOD, r"|0\.0|1\.0", _ABOUT_A_POLICY),
    # RFC 5321, 4.2.2: 450 and 550 to 553 are about the mailbox.
    Rule(Cause.RECIPIENT, "RFC 5321, 4.2.2", _RECIPIENT),
    Rule(Cause.THROTTLED, "RFC 5321, 4.3.2", frozenset({Stage.SENDER, Stage.DATA}), _FOR_NOW),
    Rule(Cause.UNCLEAR, "RFC 5321, 4.3.2"),
)

# An enhanced status code at the start of a text or after `#`, as in `sorry, no mailbox here (#5.1.1)`.
_STATUS = re.compile(r"(?:^\W*|.*?#)([245])\.(\d{1,3}\.\d{1,3})(?![\d.]*\d)")
_ADDRESS = re.compile(r"<[^<>\s]*>|[^\s<>()\[\]:;,]+@[^\s<>()\[\]:;,]+")


def classify(stage: Stage, code: int, text: str) -> Cause:
    """Return why a server refused, from its reply code and the text after it, which may begin with a status code."""
    return find_rule(stage, code, text).cause


def find_rule(stage: Stage, code: int, text: str) -> Rule:
    """Return the first rule that fits an answer."""
    text = text[:LONGEST]
    found = _STATUS.match(text)
    status = found[2] if found else ""
    words = _ADDRESS.sub(" ", text)
    if found:
        # In an answer of several lines, each line begins with it.
        words = words.replace(f"{found[1]}.{status}", " ")
    words = " ".join(words.split())
    return next(rule for rule in RULES if rule.fits(stage, code, status, words))


def names_a_block(text: str) -> bool:
    """Return whether a refusal names a block, or the reputation of our server, and not only our sender."""
    return re.search(_BLOCK, text[:LONGEST], re.IGNORECASE) is not None


# Parts of an answer that differ from mail to mail: quoted text, and words with a digit, a dot or a sign of an
# identifier inside. The codes stay.
_QUOTED = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)")
_OF_ONE_MAIL = re.compile(r"\S*(?:\d|@|://|[A-Za-z][.=_~/+][A-Za-z]|[a-z][A-Z])\S*")
_NO_LETTERS = re.compile(r"[\W_]+")


def same_answer(reply: str) -> str:
    """Return a key that is equal for the same answer to different recipients: its codes and its common words.

    Args:
        reply: the reply code and the text, on one line.
    """
    parts = split_reply(reply[:LONGEST])
    text = parts.text
    for variable in (_QUOTED, _OF_ONE_MAIL, _NO_LETTERS):
        text = variable.sub(" ", text)
    return " ".join([*parts.codes.split(), *text.casefold().split()])
