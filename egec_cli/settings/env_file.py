"""Find the settings file and the user's data folder, and split the file into variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from egec_cli.errors import ConfigError
from egec_cli.settings import trust
from egec_cli.settings.parsing import is_text, name_of_working_folder
from egec_cli.settings.types import ENV_FILE_VARIABLE
from egec_cli.translation import Words, system_message

SYSTEM_ENV_FILE = Path("/etc/egec/egec.env")


def data_folder() -> Path:
    """Return the user's data folder, for the default database and Maildir.

    Raises:
        ConfigError: the user has no home folder.
    """
    if not (os.environ.get("XDG_DATA_HOME") or _has_home()):
        raise ConfigError(
            "user {user} has no home folder to keep the data in",
            "Set EGEC_DATABASE_URL and EGEC_MAIL_URL, or HOME.",
            user=os.geteuid(),
        )
    # Imported here: not needed if a database and a mail server are set.
    import platformdirs

    return _text_path(platformdirs.user_data_path("egec", appauthor=False))


def user_env_file() -> Path:
    """Return the path of the user's settings file, for a user with a home folder."""
    import platformdirs

    return platformdirs.user_config_path("egec", appauthor=False) / "egec.env"


def _has_home() -> bool:
    if os.environ.get("HOME"):
        return True
    import pwd

    try:
        return bool(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return False


class EnvFile(NamedTuple):
    """A settings file, with its status when it was read."""

    path: Path
    text: str
    status: os.stat_result


def find_env_file(environ: Mapping[str, str]) -> EnvFile | None:
    """Return the first settings file found, or None.

    Raises:
        ConfigError: it cannot be found or read, or other users can change it.
    """
    named = environ.get(ENV_FILE_VARIABLE)
    if named:
        path = _named_env_file(named)
        found = _env_file_if_any(path)
        if found is None:
            raise ConfigError(
                "the settings file {path} is a directory"
                if path.is_dir()
                else "the settings file {path} does not exist",
                "Correct the path after --env-file or in {variable}.",
                path=path,
                variable=ENV_FILE_VARIABLE,
            )
        return found
    if local := _local_env_file():
        return local
    has_own = bool(os.environ.get("XDG_CONFIG_HOME")) or _has_home()
    for place in (*([user_env_file()] if has_own else []), SYSTEM_ENV_FILE):
        if found := _env_file_if_any(place):
            return found
    return None


def _named_env_file(named: str) -> Path:
    try:
        return Path(named).absolute()
    except FileNotFoundError:
        raise ConfigError(
            "the working folder {folder} no longer exists, so {path} cannot be found in it",
            "Change to an existing folder, or give --env-file an absolute path.",
            folder=name_of_working_folder(),
            path=named,
        ) from None


def _local_env_file() -> EnvFile | None:
    """Return the `.env` of the working folder."""
    try:
        path = Path(".env").absolute()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # The file is missing, or the folder was deleted or is inaccessible, such as root's after `sudo -u egec`. Then
        # it is only where the shell happened to be.
        return None
    return _env_file_if_any(path)


def _env_file_if_any(path: Path) -> EnvFile | None:
    """Return the settings file at a path; None if it is missing or a folder, such as a virtual environment.

    Raises:
        ConfigError: it cannot be read, or other users can change it.
    """
    try:
        path.lstat()
        if path.is_dir():
            return None
        content = trust.read(_text_path(path))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if isinstance(error, ValueError) or not os.path.islink(path):
            return None
        raise ConfigError(
            "{path} is a symbolic link to a file that does not exist", "Create the file, or remove the link.", path=path
        ) from None
    except OSError as error:
        reason = system_message(error)
        raise ConfigError(
            "{path} cannot be read: {reason}", "Give this user permission to read it.", path=path, reason=reason
        ) from None
    try:
        text = content.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            "{path} is not UTF-8 text: {reason}", "Save it as UTF-8.", path=path, reason=error.reason
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError("{path}:{line} has a NUL character", "Save it as plain text.", path=path, line=line)
    return EnvFile(path, text, content.status)


def _text_path(path: Path) -> Path:
    """Return the path if it is UTF-8, as it is shown, logged and recorded."""
    if not is_text(str(path)):
        raise ConfigError("the path {path} is not UTF-8", "Rename the file or the folder.", path=ascii(str(path)))
    return path


def parse_env_file(path: Path, text: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables of the file and its invalid lines, by number, as a line may hold a secret."""
    # Imported here: only a file needs it. `dotenv_values` would skip invalid lines.
    from io import StringIO

    from dotenv.parser import parse_stream

    faults: list[str] = []
    bindings = list(parse_stream(StringIO(text, newline=None)))
    for binding in bindings:
        # A name alone would count as unset.
        if binding.error or (binding.key and binding.value is None):
            # A statement includes the empty lines above it.
            line, statement = binding.original.line, binding.original.string
            line += statement.count("\n", 0, len(statement) - len(statement.lstrip()))
            faults.append(
                Words("{path}:{line} is not of the form NAME=value, or a quote is missing", path=path, line=line)
            )
    return {binding.key: binding.value or "" for binding in bindings if binding.key}, faults
