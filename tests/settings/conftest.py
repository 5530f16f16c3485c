"""Settings files of the tests, and the faults that loading them reports."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from egec_cli.errors import ConfigError
from egec_cli.settings import env_file
from egec_cli.settings.load import load_settings
from egec_cli.settings.types import ENV_FILE_VARIABLE, Settings, SmtpServer

SECRET = "Geheim-4711"


@pytest.fixture(autouse=True)
def no_file_of_this_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the system's settings file into the test's folder, and return its path."""
    path = tmp_path / "etc" / "egec.env"
    monkeypatch.setattr(env_file, "SYSTEM_ENV_FILE", path)
    return path


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def load_file(text: str | bytes, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a file of this content, in a folder that is not the current one."""
    path = written(Path("conf/egec.env"), text)
    return load_settings({ENV_FILE_VARIABLE: str(path), **(environ or {})})


def faults(environ: Mapping[str, str], text: str | bytes = "") -> list[str]:
    """Return the lines of what is wrong."""
    with pytest.raises(ConfigError) as refused:
        load_file(text, environ)
    first, *others = refused.value.message.splitlines()
    if not others:
        return [first]
    assert first == "invalid settings:"
    assert all(line.startswith("  ") for line in others)
    return [line.removeprefix("  ") for line in others]


def smtp(url: str, text: str = "") -> SmtpServer:
    server = load_file(text, {"EGEC_MAIL_URL": url}).mail_server
    assert isinstance(server, SmtpServer)
    return server
