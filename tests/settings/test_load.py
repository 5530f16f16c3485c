"""Loading the settings: files, precedence, values, and the report of all faults."""

import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import dotenv.parser
import hypothesis
import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from egec_cli.errors import ConfigError
from egec_cli.password import DEFAULT_SPECIALS, Alphabet
from egec_cli.settings import env_file, load, schema, types
from egec_cli.settings.load import LOGIN_SETTINGS, load_settings
from egec_cli.settings.schema import SETTINGS
from egec_cli.settings.types import (
    ENV_FILE_VARIABLE,
    Limit,
    MaildirFolder,
    SendmailProgram,
    Settings,
    SqliteFile,
)
from tests.settings.conftest import SECRET, faults, load_file, smtp, written

NAMES = [setting.name for setting in SETTINGS]
SECRET_NAMES = [setting.name for setting in SETTINGS if setting.secret]


# --- the table ---


def test_every_variable_is_a_setting_and_every_setting_has_its_variable() -> None:
    own_names = {
        "EGEC_DATABASE_URL": "database",
        "EGEC_MAIL_URL": "mail_server",
        **dict.fromkeys(LOGIN_SETTINGS, "mail_server"),
        "EGEC_DKIM_KEY": "dkim",
        "EGEC_DKIM_SELECTOR": "dkim",
        "EGEC_PASSWORD_SPECIALS": "alphabet",
        "EGEC_PASSWORD_LOOKALIKES": "alphabet",
    }
    attributes = {own_names.get(name, name.removeprefix("EGEC_").lower()) for name in NAMES}
    assert attributes | {"mail_final_timeout", "env_file", "warnings", "acting_for"} == set(Settings._fields)
    assert len(set(NAMES)) == len(NAMES)
    assert all(re.fullmatch(r"EGEC_[A-Z_]+", name) for name in NAMES)


def is_half_of_it(one: schema.Setting, other: schema.Setting) -> bool:
    """Return whether each setting needs the other."""
    return {one.name, other.name} == {"EGEC_DKIM_KEY", "EGEC_DKIM_SELECTOR"}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_has_words_and_a_valid_example(setting: schema.Setting) -> None:
    assert setting.default
    assert setting.meaning.endswith(".")
    examples = "\n".join(
        f"{one.name}='{one.example}'" for one in SETTINGS if one is setting or is_half_of_it(one, setting)
    )
    if setting.name != "EGEC_TEMPLATES":  # whose example is a folder that need not be here
        assert load_file(examples).warnings == ()


def test_without_any_variable_the_defaults_hold(tmp_path: Path) -> None:
    data = tmp_path / "data" / "egec"
    assert load_settings({}) == Settings(
        database=SqliteFile(data / "egec.db", is_default=True),
        mail_server=MaildirFolder(data / "mail", is_default=True),
        mail_from="eGEC <ne-pas-repondre@egec.pro>",
        mail_reply_to="",
        mail_bounces="",
        mail_timeout=60,
        mail_final_timeout=600,
        dkim=None,
        app_name="eGEC",
        app_url="www.egec.pro",
        support="Service IT",
        language="fr",
        timezone="Europe/Paris",
        templates=None,
        bcrypt_cost=12,
        alphabet=Alphabet.create(),
        unused_password_days=30,
        workers=os.cpu_count() or 1,
        mail_connections=4,
        mail_rate=(),
        mail_reserve=10,
        mail_retry_hours=24,
        audit_days=365,
        requests_per_client=(Limit(1, 300), Limit(5, 86_400)),
        requests_per_origin=(Limit(10, 3600),),
        request_discloses=True,
        shared_email=False,
        failures_per_origin=(Limit(30, 3600),),
        block_hours=0,
        log=None,
        env_file=None,
        warnings=(),
    )


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGEC_APP_NAME", "Portail")
    assert load_settings().app_name == "Portail"
    assert load_settings({}).app_name == "eGEC"


# --- files and precedence ---


def test_the_environment_overrides_the_file_and_an_empty_value_counts_as_missing() -> None:
    text = "EGEC_APP_NAME=file\nEGEC_SUPPORT=\nEGEC_LANGUAGE=''\n"
    assert load_file(text, {"EGEC_APP_NAME": "environment"}).app_name == "environment"
    assert load_file(text, {"EGEC_APP_NAME": ""}).app_name == "file"
    assert load_file(text).support == "Service IT"
    assert load_file(text).language == "fr"


def test_a_named_file_overrides_those_of_the_folder_the_user_and_the_system(
    tmp_path: Path, no_file_of_this_system: Path
) -> None:
    files = [tmp_path / "named.env", tmp_path / ".env", env_file.user_env_file(), no_file_of_this_system]
    assert files[2] == tmp_path / "config" / "egec" / "egec.env"
    for number, path in enumerate(files):
        written(path, f"EGEC_APP_NAME=number {number}")
    environ = {ENV_FILE_VARIABLE: "named.env"}
    for number, path in enumerate(files):
        found = load_settings(environ)
        assert (found.app_name, found.env_file) == (f"number {number}", path)
        path.unlink()
        environ = {ENV_FILE_VARIABLE: ""}
    assert load_settings(environ).env_file is None


def test_only_one_file_is_read(tmp_path: Path, no_file_of_this_system: Path) -> None:
    written(tmp_path / ".env", "EGEC_APP_NAME=local")
    written(no_file_of_this_system, "EGEC_APP_NAME=system\nEGEC_SUPPORT=system")
    assert (load_settings({}).app_name, load_settings({}).support) == ("local", "Service IT")


@pytest.mark.parametrize("name", ["missing.env", "x" * 5000, "a\0b", "\ud800"], ids=lambda name: ascii(name[:9]))
def test_a_named_file_that_is_missing_is_a_fault_and_no_other_is_read_instead(tmp_path: Path, name: str) -> None:
    written(tmp_path / ".env", "EGEC_APP_NAME=local")
    with pytest.raises(ConfigError, match=r"^the settings file .* does not exist|cannot be read"):
        load_settings({ENV_FILE_VARIABLE: name})


def test_a_named_folder_is_reported_as_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^the settings file {tmp_path} is a directory$"):
        load_settings({ENV_FILE_VARIABLE: "."})


@pytest.mark.parametrize(
    ("name", "text", "attribute", "kind", "path"),
    [
        ("EGEC_DATABASE_URL", "sqlite:///egec.db", "database", SqliteFile, "egec.db"),
        ("EGEC_DATABASE_URL", "sqlite:data/egec.db", "database", SqliteFile, "data/egec.db"),
        ("EGEC_DATABASE_URL", "sqlite:////var/egec.db", "database", SqliteFile, "/var/egec.db"),
        ("EGEC_DATABASE_URL_FILE", "own/secret", "database", SqliteFile, "own/egec.db"),
        ("EGEC_MAIL_URL", "maildir:mail", "mail_server", MaildirFolder, "mail"),
        ("EGEC_MAIL_URL", "maildir:/var/mail", "mail_server", MaildirFolder, "/var/mail"),
        ("EGEC_MAIL_URL", "sendmail:bin/sendmail", "mail_server", SendmailProgram, "bin/sendmail"),
        ("EGEC_MAIL_URL", "sendmail:", "mail_server", SendmailProgram, "/usr/sbin/sendmail"),
        ("EGEC_TEMPLATES", "own", "templates", Path, "own"),
    ],
)
def test_relative_paths_start_at_the_folder_of_the_settings_file(
    tmp_path: Path, name: str, text: str, attribute: str, kind: type, path: str
) -> None:
    for folder in (tmp_path, tmp_path / "conf"):
        written(folder / "own" / "secret", "sqlite:///egec.db\n")
    for folder, found in ((tmp_path, load_settings({name: text})), (tmp_path / "conf", load_file(f"{name}={text}"))):
        value = getattr(found, attribute)
        assert isinstance(value, kind)
        assert str(value) == str(folder / path)


# --- the content of a file ---


def test_nothing_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "expanded")
    text = "X=expanded\nEGEC_APP_NAME=$HOME ${X} $X\nEGEC_SUPPORT=\"${X}\"\nEGEC_APP_URL='${X:-y}`id`'\n"
    found = load_file(text, dict(os.environ))
    assert (found.app_name, found.support, found.app_url) == ("$HOME ${X} $X", "${X}", "${X:-y}`id`")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_of_any_editor_are_accepted(ending: str, mark: str) -> None:
    lines = ["EGEC_APP_NAME=Énergie", "# comment", "", " export EGEC_SUPPORT = 'a # b'", "EGEC_LANGUAGE=en # why"]
    found = load_file(mark + ending.join(lines))
    assert (found.app_name, found.support, found.language) == ("Énergie", "a # b", "en")


def test_a_file_that_is_not_utf_8_is_named_but_not_quoted() -> None:
    text = f"EGEC_APP_NAME=Énergie\nEGEC_MAIL_URL=smtp://a:{SECRET}é@h".encode("cp1252")
    assert re.fullmatch(r".*/conf/egec\.env is not UTF-8 text: [a-z ]+", "\n".join(faults({}, text)))


@pytest.mark.parametrize("quoted", ["{}", '"{}"', "'{}'"])
@pytest.mark.parametrize("specials", ["#%+=?*-!", "#%", "!#", "=#", "$&{}", "%#;"])
def test_specials_that_begin_with_a_hash_are_read_quoted_or_not(quoted: str, specials: str) -> None:
    assert load_file(f"EGEC_PASSWORD_SPECIALS={quoted.format(specials)}\n").alphabet == Alphabet.create(specials)


def test_specials_after_a_blank_and_a_hash_are_a_comment() -> None:
    assert load_file("EGEC_PASSWORD_SPECIALS= #%\n").alphabet.specials == DEFAULT_SPECIALS


def test_invalid_lines_are_reported_by_number_and_not_quoted() -> None:
    text = f"# a\n\n\nEGEC_MAIL_URL='smtp://u:{SECRET}@h\nEGEC_LANGUAGE=de\n\nEGEC APP={SECRET}\n={SECRET}\n"
    text += "EGEC_SUPPORT\n export EGEC_APP_NAME # why\n"
    path = Path("conf/egec.env").absolute()
    assert faults({}, text) == [
        f"{path}:4 is not of the form NAME=value, or a quote is missing",
        f"{path}:7 is not of the form NAME=value, or a quote is missing",
        f"{path}:8 is not of the form NAME=value, or a quote is missing",
        f"{path}:9 is not of the form NAME=value, or a quote is missing",
        f"{path}:10 is not of the form NAME=value, or a quote is missing",
        "EGEC_LANGUAGE must be one of fr, en. Example: EGEC_LANGUAGE=fr",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EGEC_MAIL_FORM", " (did you mean EGEC_MAIL_FROM?)"),
        ("EGEC_MAIL_RTE", " (did you mean EGEC_MAIL_RATE?)"),
        ("EGEC_DATABASE", " (did you mean EGEC_DATABASE_URL?)"),
        ("EGEC_APP_NAME_FILE", " (did you mean EGEC_APP_NAME?)"),
        ("EGEC_TYPO", ""),
        ("EGEC_MAIL", ""),
        ("EGEC_QQQQQQQQQQQQQQQ", ""),
    ],
)
def test_a_misspelt_variable_in_the_file_is_a_fault_with_a_suggestion(name: str, meant: str) -> None:
    assert faults({}, f"{name}={SECRET}\n") == [f"unknown setting {name}{meant}"]


def test_unknown_variables_of_the_environment_are_reported_without_a_fault() -> None:
    environ = {
        "EGEC_MAIL_RTE": "3",
        "EGEC_APP_NAME_FILE": "x",
        "EGEC_TYPO": SECRET,
        "EGEC_ACTOR": "jeanne",
        "EGEC_DKIM_KEY_FILE": "",
        "XEGEC_A": "x",
    }
    reading = load.read_settings(environ)
    assert reading.faults == ()
    assert reading.unknown == (
        "unknown variable EGEC_APP_NAME_FILE in the environment (did you mean EGEC_APP_NAME?)",
        "unknown variable EGEC_MAIL_RTE in the environment (did you mean EGEC_MAIL_RATE?)",
        "unknown variable EGEC_TYPO in the environment",
    )


def test_a_folder_called_dot_env_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").mkdir()
    assert load_settings({}).env_file is None


def test_variables_of_other_programs_are_ignored() -> None:
    assert load_file("PGPASSWORD=x\nXEGEC_A=y\n", {"EGEC_FOO": "z"}).app_name == "eGEC"


# --- permissions ---


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Become a user other than root, and return a folder of that user."""
    assert dotenv.parser
    assert platformdirs
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.chdir(name)
        monkeypatch.setenv("XDG_CONFIG_HOME", name)
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        yield Path(name).resolve()
        if is_root:
            os.seteuid(0)
        for folder in Path(name).iterdir():
            folder.chmod(0o700)


def test_an_unreadable_file_is_named(unprivileged: Path) -> None:
    path = written(unprivileged / "egec.env", "EGEC_APP_NAME=x")
    path.chmod(0)
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))} cannot be read: Permission denied$") as refused:
        load_settings({ENV_FILE_VARIABLE: str(path)})
    assert refused.value.hint == "Give this user permission to read it."


def test_the_settings_file_of_an_inaccessible_working_folder_is_ignored(
    unprivileged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(unprivileged / "root" / ".env", "EGEC_APP_NAME=root")
    monkeypatch.setattr(env_file, "SYSTEM_ENV_FILE", written(unprivileged / "etc/egec.env", "EGEC_APP_NAME=system"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(unprivileged))
    monkeypatch.chdir(path.parent)
    path.parent.chmod(0)
    assert load_settings({}).app_name == "system"


def test_a_file_in_an_inaccessible_folder_is_a_fault(unprivileged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(unprivileged / "etc" / "egec.env", f"EGEC_MAIL_URL=smtp://u:{SECRET}@h")
    path.parent.chmod(0)
    monkeypatch.setattr(env_file, "SYSTEM_ENV_FILE", path)
    for environ in ({}, {ENV_FILE_VARIABLE: str(path)}):
        with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
            load_settings(environ)
    monkeypatch.setattr(env_file, "SYSTEM_ENV_FILE", unprivileged / "none")
    with pytest.raises(ConfigError, match=r"EGEC_TEMPLATES names .*, which is not a folder\."):
        load_settings({"EGEC_TEMPLATES": str(path.parent / "own")})
    with pytest.raises(ConfigError, match=r"EGEC_MAIL_URL_FILE names .*, which cannot be read: Permission denied"):
        load_settings({"EGEC_MAIL_URL_FILE": str(path)})


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
@pytest.mark.parametrize("where", ["env file", "file of its own"])
def test_a_warning_names_a_file_with_a_secret_that_all_users_can_read(mode: int, warned: bool, where: str) -> None:
    url = f"smtp://u:{SECRET}@h"
    own = where == "file of its own"
    path = written(Path("secret") if own else Path("conf/egec.env"), url if own else f"EGEC_MAIL_URL={url}").absolute()
    path.chmod(mode)
    found = load_settings({"EGEC_MAIL_URL_FILE": str(path)} if own else {ENV_FILE_VARIABLE: str(path)})
    warning = f"{path} holds a secret and can be read by others. Type: chmod 600 {path}"
    assert [f"{one.what}. {one.fix}" for one in found.warnings] == ([warning] if warned else [])


def test_a_file_without_a_secret_may_be_readable_by_all_users() -> None:
    path = written(Path("egec.env"), "EGEC_APP_NAME=x\nEGEC_MAIL_URL=maildir:mail\nEGEC_MAIL_FROM=a@x.fr\n")
    path.chmod(0o644)
    assert load_settings({ENV_FILE_VARIABLE: str(path)}).warnings == ()


# --- secrets ---


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_may_come_from_a_separate_file(name: str) -> None:
    setting = next(setting for setting in SETTINGS if setting.name == name)
    written(Path("secret"), f"\ufeff  {setting.example}\r\n")
    others = {one.name: one.example for one in SETTINGS if is_half_of_it(one, setting)}
    by_file, by_value = (
        load_settings({f"{name}_FILE": "secret", **others}),
        load_settings({name: setting.example, **others}),
    )
    assert repr(by_file) == repr(by_value)


def test_a_secret_of_the_environment_overrides_the_file_in_either_form() -> None:
    written(Path("secret"), "sqlite:////x")
    for environ, text, path in (
        ({"EGEC_DATABASE_URL": "sqlite:////y"}, "EGEC_DATABASE_URL_FILE=secret\n", "/y"),
        ({"EGEC_DATABASE_URL_FILE": "secret"}, "EGEC_DATABASE_URL=sqlite:////y\n", "/x"),
    ):
        assert load_file(text, environ).database == SqliteFile(Path(path))


def test_few_specials_suffice_only_with_the_lookalikes() -> None:
    assert load_settings({"EGEC_PASSWORD_SPECIALS": "#", "EGEC_PASSWORD_LOOKALIKES": "yes"}).alphabet.specials == "#"
    (fault,) = faults({"EGEC_PASSWORD_SPECIALS": "#"})
    assert "49.4 bits" in fault


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_setting_both_a_secret_and_its_file_is_a_fault(name: str) -> None:
    written(Path("secret"), "sqlite:///x")
    for environ, text in (
        ({name: "sqlite:///y", f"{name}_FILE": "secret"}, ""),
        ({}, f"{name}=sqlite:///y\n{name}_FILE=secret\n"),
    ):
        assert faults(environ, text) == [f"{name} and {name}_FILE are both set. Keep one of them"]


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("missing", r"names .*, which cannot be read: No such file or directory"),
        (".", r"names .*, which cannot be read: Is a directory"),
        ("latin", r"names .*, which cannot be read: it is not UTF-8 text"),
        ("a\0b", "has a NUL character or bytes that are not UTF-8"),
        ("empty", "names .*, which is empty"),
    ],
    ids=ascii,
)
def test_a_secret_file_without_a_secret_is_a_fault(file: str, fault: str) -> None:
    written(Path("latin"), "é".encode("cp1252"))
    written(Path("empty"), " \n")
    assert re.fullmatch(rf"EGEC_MAIL_URL_FILE {fault}", "\n".join(faults({"EGEC_MAIL_URL_FILE": file})))


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize(
    "url",
    [
        "{}", "smtp:{}", "SMTP://u:{}@h", "smtp://u:{}@", "smtp://u:{}@h:x", "smtp://u:{}@h:99999", "smtp://u:{}@h:0",
        "smtp://u:1/{}@h", "smtp://u:1#{}@h", "smtp://u:1?{}@h", "smtp://u:{}[@h", "smtp://u:%E9{}@h", "smtp://u:{}@h\u2100",
        "smtp://u:{}@h/{}", "smtp://u:{}@h?{}=1", "smtps://u:{}@h?tls={}", "mysql://u:{}@h/d", "sqlite://{}",
        "postgresql://u:{}@h:x/d", "postgresql://u:%E9{}@h/d", "postgres://u:1/{}@h/d", "postgres://u:/{}@h/d",
        "postgres://u:1?{}@h/d", "postgres://u:1#{}@h/d",
    ],
)  # fmt: skip
def test_an_invalid_url_is_never_quoted(name: str, url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings({name: url.replace("{}", SECRET)})
    assert SECRET.lower() not in f"{refused.value!r} {refused.value.message} {refused.value.hint}".lower()
    assert refused.value.message.startswith(f"{name} ")


@pytest.mark.parametrize(
    "environ",
    [
        {"EGEC_MAIL_URL": f"smtp://user:{SECRET}@h"},
        {"EGEC_MAIL_URL": f"smtps://user:{SECRET}@h:465"},
        {"EGEC_DATABASE_URL": f"postgresql://user:{SECRET}@h/d"},
        {"EGEC_DATABASE_URL": f"postgresql://h/d?user=u&password={SECRET}"},
    ],
)
def test_no_form_of_the_settings_shows_a_secret(environ: dict[str, str]) -> None:
    found = load_settings(environ)
    for shown in (found, found.database, found.mail_server):
        assert SECRET not in f"{shown} {shown!r} {[shown]}"


def test_a_server_is_named_by_its_host_or_path() -> None:
    assert str(smtp(f"smtp://u:{SECRET}@Mail.Example.ORG")) == "mail.example.org:587"
    assert (
        str(load_settings({"EGEC_DATABASE_URL": f"postgres://u:{SECRET}@db:5433/egec"}).database)
        == "PostgreSQL db/egec"
    )
    assert str(load_settings({"EGEC_DATABASE_URL": "sqlite:////var/egec.db"}).database) == "/var/egec.db"
    assert str(load_settings({"EGEC_MAIL_URL": "maildir:/var/m"}).mail_server) == "/var/m"
    assert str(load_settings({"EGEC_MAIL_URL": "sendmail:"}).mail_server) == "/usr/sbin/sendmail"


# --- the report ---


def test_all_faults_are_reported_at_once() -> None:
    text = f"EGEC_MAIL_FORM=x\nEGEC_LANGUAGE=de\nEGEC_DATABASE_URL={SECRET}\n'\n"
    environ = {"EGEC_BCRYPT_COST": "99", "EGEC_MAIL_URL": SECRET, "EGEC_MAIL_URL_FILE": "x", "EGEC_MAIL_FROM": "jeanne"}
    lines = faults(environ, text)
    for name in ("FORM", "LANGUAGE", "DATABASE_URL", "BCRYPT_COST", "MAIL_URL_FILE", "MAIL_FROM", "egec.env:4"):
        assert sum(name in line for line in lines) >= 1, name
    assert len(lines) == 7
    assert all(line.isprintable() for line in lines)
    assert SECRET not in "".join(lines)


def test_the_hint_names_the_places_to_correct() -> None:
    with pytest.raises(ConfigError) as without_file:
        load_settings({"EGEC_LANGUAGE": "de"})
    assert without_file.value.message.startswith("EGEC_LANGUAGE ")
    assert without_file.value.hint.startswith("Correct it in the environment;")
    with pytest.raises(ConfigError) as with_several:
        load_settings({"EGEC_LANGUAGE": "de", "EGEC_LOG": "xml"})
    assert [line[:16].rstrip(":") for line in with_several.value.message.splitlines()] == [
        "invalid settings", "  EGEC_LANGUAGE ", "  EGEC_LOG must ",
    ]  # fmt: skip
    assert with_several.value.hint.startswith("Correct them in the environment;")
    with pytest.raises(ConfigError) as with_file:
        load_file("EGEC_LANGUAGE=de")
    assert f"the environment or {Path('conf/egec.env').absolute()};" in with_file.value.hint


# --- arbitrary input ---

STARTS = ["", "smtp://", "smtps://", "smtp://u:p@h", "sendmail:", "maildir:", "sqlite:", "postgresql://", "postgres://"]
anything = st.builds("{}{}".format, st.sampled_from(STARTS), st.text(st.characters()))
names = st.sampled_from([*NAMES, *(f"{name}_FILE" for name in NAMES), ENV_FILE_VARIABLE])
without_deadline = hypothesis.settings(deadline=None)


def loads_or_is_refused(environ: Mapping[str, str]) -> None:
    try:
        found = load_settings(environ)
    except ConfigError as refused:
        assert refused.message  # noqa: PT017 - either outcome is right
        return
    assert isinstance(found, Settings)
    assert str(found.database)
    assert str(found.mail_server)


@without_deadline
@given(st.dictionaries(names, anything, min_size=1, max_size=4))
def test_no_text_in_the_environment_raises_anything_but_config_error(environ: dict[str, str]) -> None:
    loads_or_is_refused(environ)


@without_deadline
@given(st.lists(st.tuples(names, anything).map("=".join) | anything, max_size=4), st.sampled_from(["\n", "\r\n", "\r"]))
def test_no_text_in_the_file_raises_anything_but_config_error(lines: list[str], ending: str) -> None:
    written(Path(".env"), ending.join(lines).encode(errors="surrogatepass"))
    loads_or_is_refused({})


@without_deadline
@given(st.binary() | st.binary().map(b"EGEC_APP_NAME=".__add__))
def test_no_bytes_in_the_file_raise_anything_but_config_error(content: bytes) -> None:
    written(Path(".env"), content)
    loads_or_is_refused({})


# --- EGEC_ACTOR ---


@pytest.mark.parametrize("name", ["jeanne.martin", "Élodie Petit (accueil)", "x" * 100, " jeanne "])
def test_the_environment_names_the_person_that_a_program_acts_for(name: str) -> None:
    assert load_settings({"EGEC_ACTOR": name}).acting_for == name.strip()
    assert load_settings({}).acting_for == ""


@pytest.mark.parametrize("name", ["x" * 101, "a\nb", "\x1b[31m", "\u202eJ", "\udcff"])
def test_a_person_that_is_not_one_line_of_text_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="EGEC_ACTOR must be one line"):
        load_settings({"EGEC_ACTOR": name})


def test_a_file_must_not_name_the_person_of_a_call() -> None:
    with pytest.raises(ConfigError, match=r"EGEC_ACTOR .* environment only"):
        load_file("EGEC_ACTOR=jeanne.martin")


def test_the_log_is_text_or_json() -> None:
    assert load_settings({"EGEC_LOG": "json"}).log is types.LogStyle.JSON
    with pytest.raises(ConfigError, match="EGEC_LOG must be one of text, json"):
        load_settings({"EGEC_LOG": "xml"})


def test_a_python_dotenv_that_follows_links_when_writing_is_not_accepted() -> None:
    """CVE-2026-28684, fixed in 1.2.2."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    [wanted] = [one for text in project["dependencies"] if (one := Requirement(text)).name == "python-dotenv"]
    assert "1.2.1" not in wanted.specifier
    assert "1.2.2" in wanted.specifier
