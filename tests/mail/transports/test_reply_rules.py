"""The causes of refusals, by real answers of mail servers; and answers that are the same for different recipients."""

from typing import NamedTuple

import pytest

from egec_cli.mail.transports.interface import Cause
from egec_cli.mail.transports.reply_rules import RULES, Rule, Stage, classify, find_rule, names_a_block, same_answer

GREETING, HELLO, LOGIN = Stage.GREETING, Stage.HELLO, Stage.LOGIN
SENDER, RECIPIENT, DATA, MESSAGE = Stage.SENDER, Stage.RECIPIENT, Stage.DATA, Stage.MESSAGE


class Answer(NamedTuple):
    """A real answer of a server, with example names and addresses."""

    server: str
    stage: Stage
    reply: str

    def rule(self) -> Rule:
        """Return the rule that decides."""
        code, _, text = self.reply.partition(" ")
        return find_rule(self.stage, int(code), text)


OF_THE_RECIPIENT = [
    Answer("Gmail", RECIPIENT, "550 5.1.1 The email account that you tried to reach does not exist. - gsmtp"),
    Answer("Gmail", RECIPIENT, "550 5.2.1 The email account that you tried to reach is disabled. - gsmtp"),
    Answer("Gmail", RECIPIENT, "452 4.2.2 The recipient's inbox is out of storage space. - gsmtp"),
    Answer("Gmail", MESSAGE, "552 5.2.2 The email account that you tried to reach is over quota. - gsmtp"),
    Answer(
        "Gmail",
        RECIPIENT,
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message later.",
    ),
    Answer(
        "Gmail",
        RECIPIENT,
        "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages.",
    ),
    Answer("Outlook", RECIPIENT, "550 5.5.0 Requested action not taken: mailbox unavailable. [x.outlook.com]"),
    Answer("Outlook", MESSAGE, "554 5.2.122 The recipient has exceeded their limit of messages per hour."),
    Answer("Outlook", MESSAGE, "554 5.2.121 The sender has exceeded the limit of messages to this recipient per hour."),
    Answer("Microsoft 365", RECIPIENT, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by address"),
    Answer("Microsoft 365", RECIPIENT, "550 5.4.1 Recipient address rejected: Access denied. [x.outlook.com]"),
    Answer(
        "Microsoft 365", MESSAGE, "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required"
    ),
    Answer("Microsoft 365", MESSAGE, "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded"),
    Answer(
        "Orange", RECIPIENT, "550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR_416 [416]"
    ),
    Answer("Orange", RECIPIENT, "552 5.1.1 Boite du destinataire pleine. Recipient overquota. OFR_417 [417]"),
    Answer("La Poste", RECIPIENT, "550 5.1.1 Boite du destinataire archivee. Archived recipient. LPN007_420 [420]"),
    Answer("La Poste", RECIPIENT, "550 5.5.0 Le compte du destinataire est bloque. Account is blocked. LPN007_426"),
    Answer("Free", RECIPIENT, "550 5.2.1 This mailbox has been blocked due to inactivity"),
    Answer("Free", RECIPIENT, "554 5.2.2 <a@free.fr>: Recipient address rejected: Quota exceeded (mailbox is full)"),
    Answer("Free", RECIPIENT, "550 5.2.2 user quota exceeded"),
    Answer("Ionos", RECIPIENT, "550 Requested action not taken: mailbox unavailable"),
    Answer("Ionos", MESSAGE, "550 Quota Exceeded"),
    Answer("Ionos", RECIPIENT, "552 Requested mail action aborted: exceeded storage allocation Quota exceeded."),
    Answer("Strato", RECIPIENT, "550 sorry, no mailbox here by that name"),
    Answer(
        "Web.de", MESSAGE, "550 Benutzer hat zuviele Mails auf dem Server. / User has too many messages on the server."
    ),
    Answer("Yahoo", MESSAGE, "554 delivery error: dd This user doesn't have a yahoo.com account (a@yahoo.com) [-9]"),
    Answer("Yandex", RECIPIENT, "550 5.7.1 No such user!"),
    Answer("Yandex", RECIPIENT, "552 5.2.2 Mailbox size limit exceeded"),
    Answer("iCloud", RECIPIENT, "552 5.2.2 <a@icloud.com>: user is overquota"),
    Answer("Postfix", RECIPIENT, "550 5.1.1 <a@x.fr>: Recipient address rejected: User unknown in virtual alias table"),
    Answer("Postfix", RECIPIENT, "450 4.1.1 <a@x.fr>: Recipient address rejected: unverified address: timed out"),
    Answer("Postfix", RECIPIENT, "450 4.1.2 <a@x.fr>: Recipient address rejected: Domain not found"),
    Answer("Exim", RECIPIENT, "550 Unrouteable address"),
    Answer("Exim", RECIPIENT, "451 Temporary local problem - please try later"),
    Answer("qmail", RECIPIENT, "511 sorry, no mailbox here by that name (#5.1.1 - chkuser)"),
    Answer("Zimbra", RECIPIENT, "554 5.7.1 <a@x.fr>: Recipient address rejected: User unknown"),
    Answer("any", RECIPIENT, "450 Requested mail action not taken: mailbox unavailable"),
]
GREYLISTED = [
    Answer(
        "postgrey", RECIPIENT, "450 4.2.0 <a@x.fr>: Recipient address rejected: Greylisted, see http://postgrey.example"
    ),
    Answer("milter-greylist", RECIPIENT, "451 4.7.1 Greylisting in action, please come back in 00:05:00"),
    Answer("a policy service", SENDER, "450 4.7.1 <mx.egec.pro[192.0.2.1]>: Client host rejected: Greylisted"),
    Answer("sqlgrey", RECIPIENT, "450 4.7.1 <a@x.fr>: Recipient address rejected: Greylisted for 5 minutes"),
    Answer(
        "Exim",
        RECIPIENT,
        "451 192.0.2.1 is not yet authorized to deliver mail from <b@egec.pro> to <a@x.fr>. Please try later.",
    ),
    Answer("any", RECIPIENT, "450 4.7.1 Please try again in 300 seconds"),
    Answer("any", RECIPIENT, "450 4.2.0 <a@x.fr>: Recipient address rejected: Grey Listed, try again in 5 minutes"),
    Answer("Barracuda", RECIPIENT, "451 4.7.1 <a@x.fr>: Recipient address rejected: Greylisted for 5 minutes"),
    Answer("ZeroSpam", RECIPIENT, "450 4.2.0 <a@x.fr>: Recipient address rejected: x.fr greylisted for 60 seconds"),
]
THROTTLED = [
    Answer("Gmail", RECIPIENT, "450 4.2.1 Peak SMTP relay limit exceeded for customer. This is a temporary error."),
    Answer("Gmail", MESSAGE, "550 5.4.5 Daily user sending limit exceeded. For more information see support - gsmtp"),
    Answer("Gmail", MESSAGE, "550 5.7.1 Daily SMTP relay limit exceeded for customer. - gsmtp"),
    Answer("Gmail", MESSAGE, "550 5.7.1 Email quota exceeded. - gsmtp"),
    Answer(
        "Gmail",
        MESSAGE,
        "421 4.7.28 [192.0.2.1 15] Our system has detected an unusual rate of 4.7.28 unsolicited mail originating from "
        "your IP address. It has been temporarily 4.7.28 rate limited. k10si297qtp.33 - gsmtp",
    ),
    Answer("Gmail", LOGIN, "454 4.7.0 Too many login attempts, please try again later. - gsmtp"),
    Answer("Gmail", SENDER, "421 4.7.0 Try again later, closing connection."),
    Answer("Gmail", SENDER, "421 4.4.5 Server busy, try again later."),
    Answer(
        "Outlook",
        SENDER,
        "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)",
    ),
    Answer("Microsoft 365", RECIPIENT, "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS7771234)"),
    Answer(
        "Microsoft 365",
        MESSAGE,
        "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; the submission quota was exceeded",
    ),
    Answer("Microsoft 365", MESSAGE, "550 5.1.90 Your message can't be sent because you've reached your daily limit"),
    Answer("Exchange", RECIPIENT, "452 4.3.1 Insufficient system resources"),
    Answer("SES", MESSAGE, "454 Throttling failure: Maximum sending rate exceeded."),
    Answer("SES", MESSAGE, "454 Throttling failure: Daily message quota exceeded."),
    Answer("OVH", MESSAGE, "550 sorry, too many emails (#5.7.1)"),
    Answer("OVH", SENDER, "421 4.7.0 player771.ha.ovh.net Error: too many errors"),
    Answer("Free", GREETING, "421 Too many errors from your ip (192.0.2.1), please come back later"),
    Answer(
        "Orange", MESSAGE, "421 4.2.0 Service refuse. Veuillez essayer plus tard. please try later. OFR005_505 [505]"
    ),
    Answer(
        "La Poste", RECIPIENT, "450 4.7.1 Client host rejected: Service refuse. Veuillez essayer plus tard. LPN027_503"
    ),
    Answer("SFR", RECIPIENT, "450 4.7.1 Service refused due to bad behavior. SFR_IN_105"),
    Answer("Ionos", SENDER, "421 Rate limit reached. Please try again later"),
    Answer("Ionos", RECIPIENT, "450 Requested mail action not taken: mailbox unavailable Mail send limit exceeded."),
    Answer("mailcow", MESSAGE, '451 4.7.1 Ratelimit "user" exceeded'),
    Answer("StartMail", RECIPIENT, "550 5.7.1 Your mail limit has been reached."),
    Answer("vmail", DATA, "550 5.7.1 <DATA>: Data command rejected: only 10 messages per day"),
    Answer("Postfix", SENDER, "450 4.7.1 Error: too much mail from mx.egec.pro"),
    Answer("Postfix", RECIPIENT, "452 4.5.3 Error: too many recipients"),
    Answer(
        "Exim/cPanel",
        RECIPIENT,
        "550 Domain egec.pro has exceeded the max emails per hour (150/150 (100%)) allowed. Message discarded.",
    ),
    Answer("Exim", SENDER, "421 egec.pro: SMTP command slowed down, try later"),
    Answer("iCloud", RECIPIENT, "421 4.7.1 Messages to a@icloud.com deferred due to excessive volume. Try again later"),
    Answer("Yahoo", SENDER, "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume"),
    Answer("Rambler", RECIPIENT, "452 4.5.3 rate limit exceeded"),
    Answer("a relay", RECIPIENT, "450 daily quota exceeded"),
    Answer("iCloud", RECIPIENT, "451 4.7.1 Service unavailable - try again later"),
    Answer("rspamd", MESSAGE, "451 4.7.1 Try again later"),
    Answer("any", SENDER, "452 Insufficient system storage"),
    Answer("any", DATA, "451 Not now"),
]
TOO_MANY_CONNECTIONS = [
    Answer("Postfix", GREETING, "421 4.7.0 mx.x.fr Error: too many connections from 192.0.2.1"),
    Answer("Exim", GREETING, "421 Too many concurrent SMTP connections from this IP address; please try again later."),
    Answer("Exim", GREETING, "421 mx.x.fr: Too many concurrent SMTP connections; please try again later."),
    Answer(
        "Orange",
        GREETING,
        "421 mwinf5c27 ME Trop de connexions, veuillez verifier. Too many connections, slow down. OFR004_104",
    ),
    Answer("Free", GREETING, "421 Too many connections"),
    Answer(
        "Exchange",
        GREETING,
        "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing channel",
    ),
    Answer(
        "Microsoft 365",
        MESSAGE,
        "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
    ),
    Answer("Sendmail", SENDER, "452 4.3.2 Connection rate limit exceeded."),
    Answer("Sendmail", GREETING, "421 4.3.2 Too many open connections."),
    Answer("postscreen", GREETING, "421 4.3.2 All server ports are busy"),
    Answer("any", LOGIN, "421 4.7.0 Too many sessions from your host"),
    Answer("any", GREETING, "554 Too many simultaneous connections from 192.0.2.1"),
]
BLOCKED = [
    Answer("Gmail", LOGIN, "535 5.7.8 Username and Password not accepted. - gsmtp"),
    Answer("Gmail", SENDER, "530 5.7.0 Authentication Required. - gsmtp"),
    Answer("Gmail", MESSAGE, "550 5.7.26 This mail has been blocked because the sender is unauthenticated. - gsmtp"),
    Answer(
        "Gmail",
        MESSAGE,
        "550 5.7.1 [192.0.2.1] This message is likely unsolicited mail. It has been blocked.",
    ),
    Answer(
        "Outlook",
        SENDER,
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Their network is on our block list (S3140).",
    ),
    Answer(
        "Microsoft 365", RECIPIENT, "550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus."
    ),
    Answer("Microsoft 365", RECIPIENT, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]."),
    Answer("Microsoft 365", MESSAGE, "550 5.7.705 Access denied, tenant has exceeded threshold"),
    Answer("Microsoft 365", MESSAGE, "550 5.7.708 Access denied, traffic not accepted from this IP"),
    Answer("Microsoft 365", MESSAGE, "550 5.7.501 Access denied, spam abuse detected"),
    Answer("Microsoft 365", MESSAGE, "550 5.1.8 Access denied, bad outbound sender"),
    Answer("Microsoft 365", MESSAGE, "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
    Answer(
        "Microsoft 365",
        LOGIN,
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
    ),
    Answer("Microsoft 365", LOGIN, "550 5.7.30 Basic authentication is not supported for Client Submission."),
    Answer(
        "Orange",
        GREETING,
        "550 mwinf5c14 ME Adresse IP source bloquee pour incident de spam. Client host blocked. OFR006_102",
    ),
    Answer("Orange", MESSAGE, "550 5.2.0 Mail rejete. Mail rejected. ofr_506 [506]"),
    Answer("Orange", SENDER, "501 5.1.0 Emetteur invalide. Invalid Sender. OFR004_405 [405]"),
    Answer(
        "La Poste",
        MESSAGE,
        "550 5.5.0 Service refuse. Veuillez essayer plus tard. service refused, please try later. LPN007_510",
    ),
    Answer("La Poste", RECIPIENT, "550 5.5.0 SPF: 192.0.2.1 is not allowed to send mail. LPN004_401"),
    Answer("Free", GREETING, "421 Refused. Your reverse DNS entry does not resolve to an IP."),
    Answer("Infomaniak", MESSAGE, "550 5.7.1 rejected by DMARC policy for egec.pro"),
    Answer("Infomaniak", RECIPIENT, "450 4.1.8 <a@egec.pro>: Sender address rejected: Domain not found"),
    Answer(
        "Postfix", RECIPIENT, "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"
    ),
    Answer(
        "Web.de",
        RECIPIENT,
        "550 <a@x.fr>: Reject due to SPF policy. The originating IP of the message is not permitted",
    ),
    Answer("Web.de", RECIPIENT, "550 <a@x.fr>: IP address is block listed"),
    Answer("any", GREETING, "554 5.7.1 Your IP 192.0.2.1 is blocked due to its reputation"),
    Answer(
        "SES",
        MESSAGE,
        "554 Message rejected: Email address is not verified. These identities failed the check: a@egec.pro",
    ),
    Answer("Postfix", RECIPIENT, "554 5.7.1 <a@x.fr>: Relay access denied"),
    Answer("Postfix", RECIPIENT, "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]"),
    Answer("Postfix", RECIPIENT, "553 5.7.1 <a@egec.pro>: Sender address rejected: not owned by user egec"),
    Answer("Postfix", RECIPIENT, "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
    Answer("Postfix", RECIPIENT, "451 4.7.1 Service unavailable; Client host [192.0.2.1] blocked using dnsbl.example"),
    Answer("Postfix", SENDER, "552 5.3.4 Message size exceeds fixed limit"),
    Answer("Postfix", MESSAGE, "552 5.3.4 Error: message file too big"),
    Answer("Exim", RECIPIENT, "550 Sender verify failed"),
    Answer("Exim", MESSAGE, "552 Message size exceeds maximum permitted"),
    Answer("Sendmail", SENDER, "451 4.1.8 Domain of sender address a@egec.pro does not resolve"),
    Answer("Exim", RECIPIENT, "550 relay not permitted"),
    Answer(
        "Yahoo", SENDER, "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, it is in Spamhaus's list"
    ),
    Answer("Comcast", GREETING, "554 comcast 192.0.2.1 Comcast block for spam."),
    Answer("any", GREETING, "554 No SMTP service here"),
    Answer("any", HELLO, "550 You are not welcome"),
]
UNREACHABLE = [
    Answer("Yandex", SENDER, "421 4.4.2 mail.yandex.net Error: timeout exceeded"),
    Answer("Postfix", SENDER, "421 4.3.2 Service shutting down"),
    Answer("Exchange", SENDER, "421 4.4.2 Connection dropped due to ConnectionReset"),
    Answer("any", HELLO, "454 TLS not available due to temporary reason"),
    Answer("any", HELLO, "451 Local error"),
]
DROPPED = [
    Answer("Postfix", RECIPIENT, "421 4.4.2 mail.example.org Error: timeout exceeded"),
    Answer("Exchange", MESSAGE, "421 4.4.2 Connection dropped due to ConnectionReset"),
]
UNCLEAR = [
    Answer("Free", MESSAGE, "550 spam detected"),
    Answer("Strato", MESSAGE, "550 5.7.1 Refused by local policy. No SPAM please!"),
    Answer("Ionos", MESSAGE, "554 Transaction failed Reject due to policy restrictions."),
    Answer("Gmail", MESSAGE, "451 4.3.0 Mail server temporarily rejected message. - gsmtp"),
    Answer("iCloud", RECIPIENT, "554 5.7.1 [CS01] Message rejected due to local policy."),
    Answer("Yahoo", RECIPIENT, "554 Message not allowed - [PH01] Email not accepted for policy reasons."),
    Answer("Postfix", RECIPIENT, "451 4.3.0 <a@x.fr>: Temporary lookup failure"),
    Answer("Postfix", RECIPIENT, "503 5.5.1 Error: need MAIL command"),
    Answer("Exim", RECIPIENT, "550 Administrative prohibition"),
    Answer("any", RECIPIENT, "550 5.7.1 Delivery not authorized"),
    Answer("any", MESSAGE, "451 Not now"),
    Answer("any", DATA, "554 No"),
]
ANSWERS = [
    (answer, cause)
    for cause, answers in (
        (Cause.RECIPIENT, OF_THE_RECIPIENT),
        (Cause.RECIPIENT, GREYLISTED),
        (Cause.THROTTLED, THROTTLED),
        (Cause.CONNECTIONS, TOO_MANY_CONNECTIONS),
        (Cause.BLOCKED, BLOCKED),
        (Cause.UNREACHABLE, UNREACHABLE),
        (Cause.DROPPED, DROPPED),
        (Cause.UNCLEAR, UNCLEAR),
    )
    for answer in answers
]


@pytest.mark.parametrize(
    ("answer", "cause"), ANSWERS, ids=[f"{cause} {answer.server} {answer.reply[:40]}" for answer, cause in ANSWERS]
)
def test_a_real_answer_has_its_cause(answer: Answer, cause: Cause) -> None:
    assert answer.rule().cause is cause


def test_every_rule_decides_about_a_real_answer() -> None:
    deciding = {answer.rule() for answer, _ in ANSWERS}
    assert [rule.source for rule in RULES if rule not in deciding] == []


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("code", [299, 354, 400, 421, 450, 499, 500, 550, 599])
@pytest.mark.parametrize("text", ["", "no", "5.1.1", "é" * 10_000, "<" * 10_000, "@" * 10_000, "#" * 10_000])
def test_every_answer_has_a_cause_and_a_key(stage: Stage, code: int, text: str) -> None:
    assert classify(stage, code, text) in Cause
    assert same_answer(f"{code} {text}").startswith(str(code))


def test_an_address_does_not_decide() -> None:
    assert classify(RECIPIENT, 550, "5.7.1 <greylist@ratelimit.example>: No") is Cause.UNCLEAR
    assert classify(RECIPIENT, 550, "5.7.1 spamhaus@blocked.example: No") is Cause.UNCLEAR


def test_a_permanent_refusal_is_no_greylist() -> None:
    assert classify(RECIPIENT, 550, "5.7.1 Rejected after greylisting") is Cause.UNCLEAR


def test_an_address_of_four_numbers_is_no_status_code() -> None:
    assert classify(RECIPIENT, 554, "5.7.1.9 has no access") is Cause.RECIPIENT


def test_a_refusal_of_the_sender_names_a_block_or_not() -> None:
    assert names_a_block("5.7.1 [BL21] Connections will not be accepted: the ip is in Spamhaus's list")
    assert not names_a_block("5.7.1 Sender address rejected: not owned by user egec")


SAME = {
    "Gmail": (
        "421 4.7.28 [192.0.2.1 15] Unusual rate of mail. See https://support.google.com/?p=Rate k10si297qtp.33 - gsmtp",
        "421 4.7.28 [192.0.2.9 15] Unusual rate of mail. See https://support.google.com/?p=Rate x5-20020a05 - gsmtp",
    ),
    "an address": ("550 5.7.1 <a@x.fr>: Access denied", "550 5.7.1 <jeanne.dupont@other.example>: Access denied"),
    "a bare address": ("554 no mail for a@x.fr today", "554 no mail for jeanne+1@other.example today"),
    "a host": ("451 4.3.0 mx1.x.fr: lookup failure", "451 4.3.0 mx.other.example: lookup failure"),
    "a queue number": ("452 4.3.1 4VqKpR3xyzz full", "452 4.3.1 A640C23A62 full"),
    "a queue number of letters": ("452 4.3.1 dGhyJqLbN: full", "452 4.3.1 KqPzRtYxB: full"),
    "a time": ("450 4.7.1 come back in 00:04:58", "450 4.7.1 come back in 00:00:03"),
    "Microsoft": (
        "550 5.7.708 Access denied [AM6EUR05.eurprd05.prod.outlook.com 2026-05-14T15:49:33.598Z 08DEADB0994CCD76]",
        "550 5.7.708 Access denied [VI1EUR04.eurprd04.prod.outlook.com 2026-05-14T16:02:01.012Z 08DEADB0994AAAAA]",
    ),
    "quoted": ('550 no "jean dupont" here', '550 no "jeanne" here'),
    "capitals and signs": ("554 Refused!", "554 refused"),
}
DIFFERENT = {
    "reply codes": ("450 no", "550 no"),
    "status codes": ("550 5.7.1 no", "550 5.7.26 no"),
    "words": ("550 5.7.1 spam detected", "550 5.7.1 virus detected"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_the_same_answer_for_different_recipients_has_one_key(one: str, other: str) -> None:
    assert same_answer(one) == same_answer(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_answers_have_different_keys(one: str, other: str) -> None:
    assert same_answer(one) != same_answer(other)


def test_a_key_keeps_the_codes_and_the_common_words() -> None:
    assert same_answer("550 5.7.1 <a@x.fr>: Relay access denied") == "550 5.7.1 relay access denied"
    assert same_answer("connection lost") == "connection lost"
