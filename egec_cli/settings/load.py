"""Load the settings from the environment and one file, and report all faults at once."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from egec_cli.errors import ConfigError, InvalidInput, quoted
from egec_cli.password import Alphabet
from egec_cli.settings import trust
from egec_cli.settings.env_file import EnvFile, data_folder, find_env_file, parse_env_file
from egec_cli.settings.parsing import NOT_TEXT, Fault, Folder, absolute_path, is_text
from egec_cli.settings.schema import PREFIX, SETTINGS, Setting
from egec_cli.settings.types import (
    ENV_FILE_VARIABLE,
    MAIL_FINAL_TIMEOUT,
    MAIL_TIMEOUT,
    DkimKey,
    MaildirFolder,
    MailServer,
    SecretCommand,
    SecretFile,
    Settings,
    SettingsWarning,
    SmtpServer,
    SqliteFile,
)
from egec_cli.translation import Words, join_words, system_message

# The person that the calling program acts for. It differs from call to call, so it is never read from a file.
ACTOR_VARIABLE = "EGEC_ACTOR"
_LONGEST_ACTOR = 100
# The settings that give the password or the token for the mail server in EGEC_MAIL_URL.
LOGIN_SETTINGS = ("EGEC_MAIL_PASSWORD_COMMAND", "EGEC_MAIL_TOKEN_COMMAND", "EGEC_MAIL_TOKEN_FILE")
_PASSWORD_COMMAND, _TOKEN_COMMAND, _TOKEN_FILE = LOGIN_SETTINGS
# The least likeness (difflib's ratio) of a misspelling: MAIL_RTE and MAIL_RATE are alike, TYPO and LOG are not.
_LEAST_LIKENESS = 0.7


class Source(NamedTuple):
    """The place of a setting, in words, and its text, which is empty if it may hold a secret."""

    place: str
    text: str


class SettingFault(NamedTuple):
    """What is wrong, in words, and the name of the setting; empty if a line of the file is not a known setting."""

    name: str
    words: str


class Reading(NamedTuple):
    """The settings with their faults.

    Attributes:
        settings: every setting; an invalid one has its default.
        faults: what is wrong; commands must not use these settings.
        sources: the source of each setting, by name.
        unknown: warnings about unknown EGEC_ variables of the environment, which other programs may use.
    """

    settings: Settings
    faults: tuple[SettingFault, ...]
    sources: Mapping[str, Source]
    unknown: tuple[str, ...] = ()

    @property
    def faulty(self) -> frozenset[str]:
        """The names of the invalid settings."""
        return frozenset(fault.name for fault in self.faults if fault.name)


def load_settings(environ: Mapping[str, str] | None = None, *, unused: tuple[str, ...] = ()) -> Settings:
    """Return the settings from the environment (default: that of the process) and the first file found.

    Args:
        unused: how the names of settings begin that the command does not use. A fault in one of them is a warning.

    Raises:
        ConfigError: something is wrong; the message lists all faults.
    """
    found = read_settings(environ)
    if faults := [fault.words for fault in found.faults if not unused or not fault.name.startswith(unused)]:
        raise _config_error(faults, found.settings.env_file)
    fix = Words("Correct it: this command does not need it, but others do.")
    warnings = [SettingsWarning(fault.words, fix) for fault in found.faults]
    return found.settings._replace(warnings=(*found.settings.warnings, *warnings))


def read_settings(environ: Mapping[str, str] | None = None) -> Reading:
    """Return the settings with their faults, instead of raising for them.

    Raises:
        ConfigError: the settings file cannot be found or read.
    """
    environ = os.environ if environ is None else environ
    found = find_env_file(environ)
    in_file, invalid_lines = ({}, []) if found is None else parse_env_file(found.path, found.text)
    reader = _Reader(environ, in_file, found)
    mail_timeout = reader.value("EGEC_MAIL_TIMEOUT")
    settings = Settings(
        database=reader.value("EGEC_DATABASE_URL") or SqliteFile(data_folder() / "egec.db", is_default=True),
        mail_server=reader.mail_server() or MaildirFolder(data_folder() / "mail", is_default=True),
        mail_from=reader.value("EGEC_MAIL_FROM"),
        mail_reply_to=reader.value("EGEC_MAIL_REPLY_TO") or "",
        mail_bounces=reader.value("EGEC_MAIL_BOUNCES") or "",
        mail_timeout=mail_timeout or MAIL_TIMEOUT,
        mail_final_timeout=mail_timeout or MAIL_FINAL_TIMEOUT,
        dkim=reader.dkim(),
        app_name=reader.value("EGEC_APP_NAME"),
        app_url=reader.value("EGEC_APP_URL"),
        support=reader.value("EGEC_SUPPORT"),
        language=reader.value("EGEC_LANGUAGE"),
        timezone=reader.value("EGEC_TIMEZONE"),
        templates=reader.value("EGEC_TEMPLATES"),
        bcrypt_cost=reader.value("EGEC_BCRYPT_COST"),
        alphabet=reader.alphabet(),
        unused_password_days=reader.value("EGEC_UNUSED_PASSWORD_DAYS"),
        workers=reader.value("EGEC_WORKERS") or os.cpu_count() or 1,
        mail_connections=reader.value("EGEC_MAIL_CONNECTIONS"),
        mail_rate=reader.value("EGEC_MAIL_RATE"),
        mail_reserve=reader.value("EGEC_MAIL_RESERVE"),
        mail_retry_hours=reader.value("EGEC_MAIL_RETRY_HOURS"),
        audit_days=reader.value("EGEC_AUDIT_DAYS"),
        requests_per_client=reader.value("EGEC_REQUESTS_PER_CLIENT"),
        requests_per_origin=reader.value("EGEC_REQUESTS_PER_ORIGIN"),
        request_discloses=reader.value("EGEC_REQUEST_DISCLOSES"),
        shared_email=reader.value("EGEC_SHARED_EMAIL"),
        failures_per_origin=reader.value("EGEC_FAILURES_PER_ORIGIN"),
        block_hours=reader.value("EGEC_BLOCK_HOURS"),
        log=reader.value("EGEC_LOG"),
        env_file=found.path if found else None,
        warnings=tuple(reader.warnings()),
        acting_for=reader.acting_for(),
    )
    sources = {setting.name: reader.source(setting) for setting in SETTINGS}
    unknown = tuple(reader.unknown_variables())
    return Reading(settings, (*(SettingFault("", words) for words in invalid_lines), *reader.faults), sources, unknown)


def _config_error(faults: Sequence[str], env_file: Path | None) -> ConfigError:
    where = Words("the environment or {env_file}", env_file=env_file) if env_file else Words("the environment")
    if len(faults) == 1:
        message = faults[0]
        hint = Words("Correct it in {where}; `egec help settings` explains every setting.", where=where)
    else:
        message = join_words("\n  ", [Words("invalid settings:"), *faults])
        hint = Words("Correct them in {where}; `egec help settings` explains every setting.", where=where)
    return ConfigError(message, hint)


def _has_secret(text: str) -> bool:
    return "@" in text or "password=" in text or "PRIVATE KEY" in text


def _default(setting: Setting) -> Any:
    """Return the value of a default; None if words describe it."""
    return None if isinstance(setting.default, Words) else setting.parse(setting.default, None)


class _Reader:
    """Reads variables one by one and collects the faults."""

    def __init__(self, environ: Mapping[str, str], in_file: Mapping[str, str], env_file: EnvFile | None) -> None:
        self._environ = environ
        self._in_file = in_file
        self._env_file = env_file
        self._secret_files: list[tuple[Path, os.stat_result]] = []
        self._known = {setting.name: setting for setting in SETTINGS}
        self.faults = [SettingFault("", words) for words in self._unknown_in_file()]

    def value(self, name: str) -> Any:
        """Return the parsed value of the variable; its default if it is not set, empty or invalid."""
        setting = self._known[name]
        text, folder = self._text(name)
        if setting.secret:
            text, folder = self._text_or_file(name, text, folder)
        if not text:
            return _default(setting)
        try:
            value = setting.parse(text, folder)
            if is_text(text):
                return value
            reason = NOT_TEXT
        except Fault as fault:
            reason = fault.words
        except InvalidInput as error:
            reason = Words("is refused: {message}", message=error.message)
        self._fault("{name} {reason}. Example: {name}={example}", name=name, reason=reason, example=setting.example)
        return _default(setting)

    def alphabet(self) -> Alphabet:
        """Return the alphabet of both settings; the default one if they do not go together."""
        specials, lookalikes = self.value("EGEC_PASSWORD_SPECIALS"), self.value("EGEC_PASSWORD_LOOKALIKES")
        try:
            return Alphabet.create(specials, lookalikes=lookalikes)
        except InvalidInput as error:
            name = "EGEC_PASSWORD_SPECIALS"
            self._fault("{name} is refused: {message}. {hint}", name=name, message=error.message, hint=error.hint)
            return Alphabet.create()

    def mail_server(self) -> MailServer | None:
        """Return the mail server with the source of its password or token; None if no mail server is set."""
        server: MailServer | None = self.value("EGEC_MAIL_URL")
        password = self._command(_PASSWORD_COMMAND)
        token = self._token()
        if not isinstance(server, SmtpServer):
            # The settings of a login stay when mail is saved to a folder for a try.
            return server
        if server.uses_oauth:
            self._require_only_a_token(token, password)
            return server._replace(secret=token)
        if token is not None:
            self._fault(
                "{name} is set, but EGEC_MAIL_URL has no auth=oauth. Add it, or unset {name}", name=token.setting
            )
        if password is not None and server.password.reveal():
            self._fault("{name} is set, and EGEC_MAIL_URL has a password. Remove one of them", name=_PASSWORD_COMMAND)
        elif password is not None and not server.user:
            self._fault("{name} is set, but EGEC_MAIL_URL has no user name before the @", name=_PASSWORD_COMMAND)
        return server._replace(secret=password)

    def _command(self, name: str) -> SecretCommand | None:
        words = self.value(name)
        return SecretCommand(name, words) if words else None

    def _token(self) -> SecretCommand | SecretFile | None:
        """Return the source of the token: a command or a file."""
        command, path = self._command(_TOKEN_COMMAND), self.value(_TOKEN_FILE)
        if command and path:
            in_environment = [name for name in (_TOKEN_COMMAND, _TOKEN_FILE) if self._environ.get(name)]
            if len(in_environment) != 1:
                self._fault("{name} and {other} are both set. Keep one of them", name=_TOKEN_COMMAND, other=_TOKEN_FILE)
            # The environment overrides the settings file, in either form.
            elif in_environment == [_TOKEN_FILE]:
                command = None
        if command or not path:
            return command
        # A missing file is an error of the login, not of the settings: another program may still have to write it.
        with suppress(OSError):
            self._secret_files.append((path, os.stat(path)))
        return SecretFile(_TOKEN_FILE, path)

    def _require_only_a_token(self, token: SecretCommand | SecretFile | None, password: SecretCommand | None) -> None:
        if token is None and not self._is_faulty(_TOKEN_COMMAND, _TOKEN_FILE):
            self._fault(
                "{name} has auth=oauth, but there is no token. Set {command} or {file}",
                name="EGEC_MAIL_URL",
                command=_TOKEN_COMMAND,
                file=_TOKEN_FILE,
            )
        if password is not None:
            self._fault("{name} is set, but EGEC_MAIL_URL has auth=oauth. Unset one of them", name=_PASSWORD_COMMAND)

    def dkim(self) -> DkimKey | None:
        """Return the signing key with its selector; each needs the other."""
        key, selector = self.value("EGEC_DKIM_KEY"), self.value("EGEC_DKIM_SELECTOR")
        missing, given = ("EGEC_DKIM_SELECTOR", "EGEC_DKIM_KEY") if key else ("EGEC_DKIM_KEY", "EGEC_DKIM_SELECTOR")
        if bool(key) != bool(selector) and not self._is_faulty(missing, given):
            example = f"{missing}={self._known[missing].example}"
            self._fault(
                "{name} is missing, but {given} needs it. Example: {example}",
                name=missing,
                given=given,
                example=example,
            )
        return DkimKey(key, selector) if key and selector else None

    def acting_for(self) -> str:
        """Return the person that the calling program acts for."""
        text = self._environ.get(ACTOR_VARIABLE, "").strip()
        if text.isprintable() and len(text) <= _LONGEST_ACTOR:
            return text
        self._fault(
            "{name} must be one line of at most {most} printable characters. Example: {name}=jeanne.martin",
            name=ACTOR_VARIABLE,
            most=_LONGEST_ACTOR,
        )
        return ""

    def source(self, setting: Setting) -> Source:
        """Return the first place that has the setting."""
        names = [setting.name, f"{setting.name}_FILE"] if setting.secret else [setting.name]
        for place, variables in (
            (Words("the environment"), self._environ),
            (str(self._env_file.path if self._env_file else ""), self._in_file),
        ):
            for name in names:
                if variables.get(name):
                    where = (
                        place
                        if name == setting.name
                        else Words("the file that {name} names in {place}", name=name, place=place)
                    )
                    return Source(where, "" if setting.secret or setting.hidden else variables[name])
        return Source(Words("the default"), "" if setting.secret else setting.default)

    def _fault(self, what: str, /, *, name: str, **values: object) -> None:
        self.faults.append(SettingFault(name, Words(what, name=name, **values)))

    def _is_faulty(self, *names: str) -> bool:
        return any(fault.name in names for fault in self.faults)

    def _text(self, name: str) -> tuple[str, Folder]:
        if self._environ.get(name) or self._env_file is None:
            return self._environ.get(name, ""), None
        return self._in_file.get(name, ""), self._env_file.path.parent

    def _text_or_file(self, name: str, text: str, folder: Folder) -> tuple[str, Folder]:
        file_name, file_folder = self._text(f"{name}_FILE")
        if text and file_name and bool(self._environ.get(name)) != bool(self._environ.get(f"{name}_FILE")):
            # The environment overrides the file, in either form.
            text, file_name = (text, "") if self._environ.get(name) else ("", file_name)
        if not file_name:
            return text, folder
        if text:
            self._fault("{name} and {name}_FILE are both set. Keep one of them", name=name)
            return "", folder
        try:
            path = absolute_path(file_folder, file_name)
            content = trust.read(path)
            text = content.data.decode("utf-8-sig").strip()
        except Fault as fault:
            self._fault("{name}_FILE {fault}", name=name, fault=fault.words)
            return "", folder
        except trust.UntrustedFile as error:
            self._fault("{name}_FILE is refused: {what}. {fix}", name=name, what=error.message, fix=error.hint)
            return "", folder
        except (OSError, ValueError) as error:
            reason = system_message(error) if isinstance(error, OSError) else Words("it is not UTF-8 text")
            self._fault("{name}_FILE names {path}, which cannot be read: {reason}", name=name, path=path, reason=reason)
            return "", folder
        if not text:
            self._fault("{name}_FILE names {path}, which is empty", name=name, path=path)
        self._secret_files.append((path, content.status))
        return text, path.parent

    def _unknown_in_file(self) -> Iterator[str]:
        for name in self._in_file:
            if name == ACTOR_VARIABLE:
                yield Words("{name} differs from call to call: set it in the environment only", name=name)
            elif self._is_unknown(name):
                meant = self._nearest(name)
                yield Words(
                    "unknown setting {name} (did you mean {meant}?)" if meant else "unknown setting {name}",
                    name=name,
                    meant=meant,
                )

    def unknown_variables(self) -> Iterator[str]:
        """Yield a warning for each unknown EGEC_ variable of the environment."""
        for name in sorted(self._environ):
            if name not in {ENV_FILE_VARIABLE, ACTOR_VARIABLE} and self._is_unknown(name):
                meant = self._nearest(name)
                yield Words(
                    "unknown variable {name} in the environment (did you mean {meant}?)"
                    if meant
                    else "unknown variable {name} in the environment",
                    name=ascii(name)[1:-1],
                    meant=meant,
                )

    def _is_unknown(self, name: str) -> bool:
        if not name.startswith(PREFIX) or name in self._known:
            return False
        setting = self._known.get(name.removesuffix("_FILE"))
        return setting is None or not setting.secret

    def _nearest(self, name: str) -> str:
        """Return the setting with the most similar name, or an empty text."""
        from difflib import get_close_matches

        # Without the common prefix, which would make all names similar.
        known = [one.removeprefix(PREFIX) for one in self._known]
        return "".join(PREFIX + one for one in get_close_matches(name.removeprefix(PREFIX), known, 1, _LEAST_LIKENESS))

    def warnings(self) -> Iterator[SettingsWarning]:
        """Yield a warning for each file with secrets that all users can read."""
        files = list(self._secret_files)
        if self._env_file and any(_has_secret(self._in_file.get(s.name, "")) for s in SETTINGS if s.secret):
            files.append((self._env_file.path, self._env_file.status))
        for path, status in files:
            if status.st_mode & stat.S_IROTH:
                what = Words("{path} holds a secret and can be read by others", path=path)
                yield SettingsWarning(what, Words("Type: chmod 600 {path}", path=quoted(path)))
