"""Delivery reports (RFC 3464) of mails, as tests write them."""

NO_SUCH_USER = "550 5.1.1 <jeanne@example.org>: no such user"


def report_of(
    message_id: str = "",
    *,
    to: str = "ne-pas-repondre@egec.pro",
    action: str = "failed",
    status: str = "5.1.1",
    words: str = NO_SUCH_USER,
) -> bytes:
    """Return a delivery report; without a Message-ID, only its recipient identifies the mail."""
    return f"""\
From: MAILER-DAEMON@mx.example.org
To: {to}
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="report"

--report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org

Final-Recipient: rfc822; jeanne@example.org
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {words}

--report
Content-Type: text/rfc822-headers

{f"Message-ID: {message_id}" if message_id else "Subject: Vos identifiants"}

--report--
""".encode()
