"""The programs of the guide that get a token of Microsoft 365 and Google, against servers that imitate theirs.

That of Google is skipped without the library that it needs.
"""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.conftest import Egec
from tests.manual.blocks import Block, executed_by
from tests.smtp_server import MailServer
from tests.tokens import USER, Tokens, write_program

MICROSOFT, GOOGLE = executed_by("tests/mail/test_token_recipes.py")


class TokenServer:
    """A server that gives a token to those who ask for it, and keeps what they sent, by the path of the request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                requests.append((self.path, {name: one for name, [one] in parse_qs(body).items()}))
                answer = {"token_type": "Bearer", "expires_in": 3599, "access_token": f"token-{len(requests)}"}
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def token_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = TokenServer()
    yield server
    server.stop()


def installed(block: Block, folder: Path, **stand_ins: str) -> Path:
    """Write the program of a block, with this Python and these texts instead of others."""
    first, _, rest = block.text.partition("\n")
    assert first.startswith("#!/")
    assert "/python" in first
    for text, other in stand_ins.items():
        assert text in rest
        rest = rest.replace(text, other)
    return write_program(folder / "mail-token", f"#!{sys.executable}\n{rest}")


def require_login(egec: Egec, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `egec` send a mail with the token that the program gets."""
    with MailServer(tokens=Tokens(("XOAUTH2",))) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        monkeypatch.setenv("EGEC_MAIL_TOKEN_COMMAND", str(program))
        assert egec("mail", "test", "you@example.org").code == 0
        assert [mail.recipient for mail in server.accepted] == ["you@example.org"]


def test_the_program_for_microsoft_365_gets_a_token_with_the_secret_of_the_application(
    egec: Egec, token_server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "client-secret").write_text("Abc8Q~d+&=%é\n", encoding="utf-8")
    stand_ins = {"/etc/egec/client-secret": f"{tmp_path}/client-secret", "TENANT-ID": "tenant", "CLIENT-ID": "client"}
    program = installed(MICROSOFT, tmp_path, **stand_ins, **{"https://login.microsoftonline.com": token_server.url})
    require_login(egec, program, monkeypatch)
    [request] = token_server.requests
    assert request == (
        "/tenant/oauth2/v2.0/token",
        {
            "grant_type": "client_credentials",
            "client_id": "client",
            "client_secret": "Abc8Q~d+&=%é",
            "scope": "https://outlook.office365.com/.default",
        },
    )


@pytest.mark.skipif(find_spec("google") is None, reason="google-auth is missing: pip install google-auth requests")
def test_the_program_for_google_workspace_gets_a_token_for_the_user(
    egec: Egec, token_server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = {
        "type": "service_account",
        "client_email": "egec@project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "token_uri": f"{token_server.url}/token",
    }
    (tmp_path / "google-key.json").write_text(json.dumps(key))
    stand_ins = {"/etc/egec/google-key.json": f"{tmp_path}/google-key.json", "ne-pas-repondre@egec.pro": USER}
    require_login(egec, installed(GOOGLE, tmp_path, **stand_ins), monkeypatch)
    [(path, form)] = token_server.requests
    assert (path, form["grant_type"]) == ("/token", "urn:ietf:params:oauth:grant-type:jwt-bearer")
    signed, _, signature = form["assertion"].rpartition(".")
    private.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    claims = json.loads(_decoded(signed.rpartition(".")[2]))
    assert (claims["iss"], claims["sub"]) == (key["client_email"], USER)
    assert claims["scope"] == "https://mail.google.com/"


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
