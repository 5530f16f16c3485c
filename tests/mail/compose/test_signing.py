"""Signatures: verified as receivers do it, by keys of every form, and no longer verified once anything is changed."""

import base64
import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from egec_cli.errors import ConfigError
from egec_cli.mail.compose.sample import sample_mail
from egec_cli.mail.compose.signing import Signer
from egec_cli.mail.compose.template import Kind
from egec_cli.mail.transports import choose
from egec_cli.password import Password
from egec_cli.settings import load
from egec_cli.settings.types import LANGUAGES, DkimKey
from tests import children, dkim_keys
from tests.mail.conftest import mail_to
from tests.processes import command_of, hide_module
from tests.smtp_server import MailServer

# The library does not create keys this small.
WEAK = """\
-----BEGIN PRIVATE KEY-----
MIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEA6Msv+4sHAOz22NHz
kgs5i9y4j0uF5clRxszxntRz01p6doiARD7bpP/nlTO8NdG9mKSWzjhs0y0EUGih
Af8v/QIDAQABAkAuAqLMK7FJrIwpVG24qsFH9GsB32JqhTzFdxI2WzU9S18wK+Pf
K6rqEt5DRoRtj+T6yD4pMjC4AftxYThsTUW9AiEA998/X2XKnSA9gREN7J3wLUb2
wilnUAYhQBj+SHpO7QcCIQDwbV179XzrOC3ZcIvgeE/f1caOZQ1Qid/2CKQoodJ9
2wIgMa+1k1jjOYXp7kJN6T1rlJfiBN+pzve7mI6qAjtKMOcCIFr92QqH7v4KpfeM
C7QpdHlPK7VKc06Oz68KuC4UiFhPAiEA9eNu6cTvu5+Q37jzMKO0fikF+fHfe0/b
jBCr5TrN31s=
-----END PRIVATE KEY-----
"""
AT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)


def signer(private: str | None = None) -> Signer:
    return Signer(DkimKey(Password(private or dkim_keys.pem()), dkim_keys.SELECTOR), "egec.pro")


def content(kind: Kind = Kind.CREDENTIALS, language: str = "fr", **changed: Any) -> bytes:
    return sample_mail(load.load_settings({}), kind, language, at=AT, **changed).content


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", Kind)
def test_a_signed_mail_is_verified_and_is_the_mail_with_a_header_before_it(kind: Kind, language: str) -> None:
    unsigned = content(kind, language, name="Mme Noëlle d\u2019Œuvre")
    one = signer()
    signed = one.sign(unsigned)
    assert signed.endswith(unsigned)
    header = signed.removesuffix(unsigned)
    assert header.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=egec.pro;")
    assert max(map(len, header.split(b"\r\n"))) <= 78
    assert not {*b"\r\n"} & {*header.replace(b"\r\n", b"")}
    assert header.count(b"\r\n") == header.count(b"\r\n ") + 1
    assert dkim_keys.is_verified(signed, {f"{one.name}.": one.record})
    assert one.verifies(signed)
    assert not one.verifies(unsigned)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS8", "PKCS1"])
@pytest.mark.parametrize("bits", [1024, 2048, 3072])
@pytest.mark.parametrize("ending", ["\n", "\r\n", " "])
def test_a_key_of_any_usual_form_signs(bits: int, form: PrivateFormat, ending: str) -> None:
    one = signer(dkim_keys.pem(bits, form).replace("\n", ending))
    assert one.bits == bits
    assert one.verifies(one.sign(content()))


@pytest.mark.parametrize("bits", [1024, 2048])
def test_the_record_has_the_public_half_as_openssl_writes_it(bits: int) -> None:
    one = signer(dkim_keys.pem(bits))
    public = dkim_keys.key(bits).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert one.record == f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
    assert dkim_keys.zone(one.zone_line()) == {"mail2026._domainkey.egec.pro.": one.record}


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "another password": lambda mail: mail.replace(b"fG69a*6jH", b"fG69a*6jX"),
    "another subject": lambda mail: mail.replace(b"Subject: ", b"Subject: x"),
    "another recipient": lambda mail: mail.replace(b"\r\nTo: jeanne", b"\r\nTo: marc"),
    "a second From": lambda mail: b"From: evil@example.org\r\n" + mail,
    "a second Subject": lambda mail: b"Subject: evil\r\n" + mail,
    "a Reply-To": lambda mail: b"Reply-To: evil@example.org\r\n" + mail,
    "a Cc": lambda mail: b"Cc: evil@example.org\r\n" + mail,
    "another kind of content": lambda mail: b"Content-Type: text/html\r\n" + mail,
    "more text": lambda mail: mail + b"evil\r\n",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_mail_that_was_changed_on_the_way_is_not_verified(change: str) -> None:
    one = signer()
    signed = one.sign(content())
    assert CHANGES[change](signed) != signed
    assert not one.verifies(CHANGES[change](signed))


def test_what_mail_servers_do_on_the_way_leaves_it_verified() -> None:
    one = signer()
    signed = one.sign(content())
    delivered = b"Return-Path: <a@egec.pro>\r\nReceived: from a\r\n by b\r\n" + signed
    for changed in (
        delivered,
        signed.replace(b"\r\nSubject: ", b"\r\nSubject:  "),
        signed.replace(b"Auto-Submitted: auto", b"Auto-Submitted:\r\n auto"),
        signed + b"\r\n\r\n",
        signed.replace(b"\r\n", b"\n"),  # as a Maildir keeps it
    ):
        assert changed != signed
        assert one.verifies(changed)


@pytest.mark.parametrize(
    ("mail_from", "domain"),
    [
        ("Été <été@example.org>", "example.org"),
        ("eGEC <a@straße.de>", "xn--strae-oqa.de"),
        ("a@Example.ORG", "example.org"),
    ],
)
def test_it_is_signed_for_the_domain_in_from_whose_records_are_in_ascii(mail_from: str, domain: str) -> None:
    found = load.load_settings({"EGEC_MAIL_FROM": mail_from, **dkim_keys.environment()})
    with MailServer() as server:
        sending = found._replace(mail_server=load.load_settings({"EGEC_MAIL_URL": server.url}).mail_server)
        way = choose.open_transport(sending)
        way.deliver(sample_mail(sending, Kind.CREDENTIALS, "fr", at=AT, recipient="jérôme@xn--strae-oqa.de"))
        way.close()
        [kept] = server.accepted
    record = Signer(DkimKey(Password(dkim_keys.pem()), dkim_keys.SELECTOR), domain).record
    assert dkim_keys.is_verified(kept.content, {f"mail2026._domainkey.{domain}.": record})


def test_threads_share_a_signer() -> None:
    one = signer()
    mails = [content(recipient=f"client{number}@example.org") for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        assert all(one.verifies(signed) for signed in threads.map(one.sign, mails))


# --- refused ---


def refusal(private: str) -> ConfigError:
    with pytest.raises(ConfigError, match=r"^the key in EGEC_DKIM_KEY ") as refused:
        signer(private)
    assert refused.value.hint
    whole = f"{refused.value}{refused.value.hint}{refused.value.__cause__}"
    assert not any(line in whole for line in private.splitlines()[1:-1] if line)
    return refused.value


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS8", "PKCS1"])
def test_an_encrypted_key_is_reported_with_the_command_to_decrypt_it(form: PrivateFormat) -> None:
    encrypted = dkim_keys.key().private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")).decode()
    error = refusal(encrypted)
    assert error.message.endswith("is encrypted")
    assert "openssl rsa -in" in error.hint


@pytest.mark.parametrize(
    "other", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())], ids=["Ed25519", "EC"]
)
def test_a_key_of_another_kind_is_refused(other: Any) -> None:
    private = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert refusal(private).message.endswith("is not an RSA key")


def test_a_key_that_no_mail_server_verifies_is_refused() -> None:
    assert "has 512 bits" in refusal(WEAK).message


# Of its numbers, all are used but the private exponent, in the middle.
@pytest.mark.parametrize("place", [2, 3, 4, 5, 15, 17, 19, 21, 23, 25])
def test_a_key_of_which_one_character_is_wrong_is_refused(place: int) -> None:
    lines = dkim_keys.pem().splitlines()
    lines[place] = f"{lines[place][:20]}{'B' if lines[place][20] == 'A' else 'A'}{lines[place][21:]}"
    refusal("\n".join(lines))


@pytest.mark.parametrize("rest", [[], ["é$"], ["AAAA"]], ids=ascii)
def test_a_key_of_which_lines_are_missing_or_no_base64_is_refused(rest: list[str]) -> None:
    lines = dkim_keys.pem().splitlines()
    refusal("\n".join([*lines[:10], *rest, lines[-1]]))


def test_without_dkimpy_it_is_said_what_to_install() -> None:
    environment = {**os.environ, **dkim_keys.environment()}
    command = command_of(hide_module("dkim"), children.print_what_signing_needs)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    told = r"EGEC_DKIM_KEY is set, but dkimpy is not installed.* pip install 'egec\[dkim\]'.*\n"
    assert re.fullmatch(f"error {told}{told}", done.stdout), done


def test_a_transport_without_a_key_is_the_plain_one() -> None:
    with MailServer() as server:
        found = load.load_settings({"EGEC_MAIL_URL": server.url})
        way = choose.open_transport(found)
        way.deliver(mail_to())
        way.close()
        assert not server.accepted[0].content.startswith(b"DKIM")
