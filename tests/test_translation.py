"""French for operators: the catalogue is complete and correct, and machine output does not change."""

import ast
import gettext
import json
import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

from egec_cli import main, translation
from egec_cli.clients.select import explain_selectors
from egec_cli.commands import typer_texts
from egec_cli.errors import InvalidInput
from egec_cli.translation import Words, detect_language, join_words, translate
from tests import catalogue, children
from tests.conftest import Egec
from tests.processes import command_of
from tests.smtp_server import Fault, MailServer
from tests.test_docs import commands

FRENCH = {"LC_ALL": "fr_FR.UTF-8"}
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"

# All texts with their translations; none of them has a plural.
FRENCH_OF = {str(message.id): str(message.string or "") for message in catalogue.read() if message.id}
MODULES = sorted(catalogue.PACKAGE.rglob("*.py"))


def typed(text: str) -> str:
    """Return a text with plain spaces and apostrophes."""
    return text.replace(NO_BREAK_SPACE, " ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


# The language.


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr"}, "fr"),
        ({"LANG": "fr_CA@euro"}, "fr"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "fr_FR", "LC_MESSAGES": "en_GB"}, "en"),
        ({"LANG": "en_GB", "LC_MESSAGES": "fr_FR"}, "fr"),
        ({"LC_MESSAGES": "fr_FR", "LC_ALL": "en_GB"}, "en"),
        ({"LC_MESSAGES": "fr_FR", "LC_ALL": ""}, "fr"),
        ({"LC_ALL": "en_GB", "LANGUAGE": "fr"}, "fr"),
        ({"LC_ALL": "fr_FR", "LANGUAGE": "en"}, "en"),
        ({"LC_ALL": "en_GB", "LANGUAGE": "de:fr:en"}, "fr"),
        ({"LC_ALL": "C", "LANGUAGE": "fr"}, "en"),
        ({"LC_ALL": "C.UTF-8", "LANGUAGE": "fr"}, "en"),
        ({"LANGUAGE": "fr"}, "en"),
        ({"LC_ALL": "fresque"}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale_as_gettext_finds_it(environ: dict[str, str], language: str) -> None:
    assert detect_language(environ) == language


# Words.


def test_words_are_english_text_until_they_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words("{path} is {what}", path="here", what=Words("empty"))
    assert (words, json.dumps(words), f"{words}!") == ("here is empty", '"here is empty"', "here is empty!")
    assert translate(words) == "here is empty"
    monkeypatch.setattr(translation, "_look_up", {"{path} is {what}": "{what} : {path}", "empty": "vide"}.__getitem__)
    assert translate(words) == "vide : here"
    assert words == "here is empty"


def test_joined_words_are_translated_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    both = join_words("; ", [Words("empty"), "data"])
    assert both == "empty; data"
    monkeypatch.setattr(translation, "_look_up", lambda text: "vide" if text == "empty" else text)
    assert translate(both) == f"vide{NO_BREAK_SPACE}; data"
    assert translate("empty") == "empty"
    assert translate(Words("")) == ""


def test_french_numbers_have_french_separators_and_data_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    size = Words("{mebibytes:,.1f} MiB", mebibytes=60_632.4)
    told = Words("{free} free in {parent}; the database uses {size}", free=size, parent="/a,b.c/{x}", size=size)
    assert translate(told) == "60,632.4 MiB free in /a,b.c/{x}; the database uses 60,632.4 MiB"
    monkeypatch.setattr(translation, "_look_up", FRENCH_OF.__getitem__)
    number = "60\N{NARROW NO-BREAK SPACE}632,4"
    assert translate(size) == f"{number} Mio"
    assert translate(told).count(number) == 2
    assert "/a,b.c/{x}" in translate(told)


def test_an_error_is_english_and_keeps_its_template_and_values() -> None:
    error = InvalidInput("{path} is empty", "Fill {path}.", path="{here}")
    assert (str(error), error.message, error.hint) == ("{here} is empty", "{here} is empty", "Fill {here}.")
    assert isinstance(error.message, Words)
    assert InvalidInput(error.message, error.hint).message is error.message


# The catalogue.


def test_every_text_of_the_program_is_in_the_catalogue_and_no_other() -> None:
    wanted = {message.id for message in catalogue.texts() if message.id}
    assert set(FRENCH_OF) == wanted, "type: python -m tests.catalogue"


def test_every_text_is_translated() -> None:
    assert [text for text, french in FRENCH_OF.items() if not french] == []
    assert [message.id for message in catalogue.read() if message.id and message.fuzzy] == []


def test_translations_have_the_values_of_their_texts() -> None:
    for text, french in FRENCH_OF.items():
        if "{" in text:
            assert catalogue.fields(french) == catalogue.fields(text), text
        for kept in (r"\$\w+|(?<!\w)--[a-z-]+|EGEC_[A-Z_]+|`egec [a-z]+", r"\A\s*", r"\s*\Z"):
            assert sorted(re.findall(kept, french)) == sorted(re.findall(kept, text)), text


def test_translations_follow_french_typography() -> None:
    for french in FRENCH_OF.values():
        # What is typed, or the name of the program, stays as it is.
        text = re.sub(r"""`[^`]*`|\{\{.*\}\}|"[^"]*"|(?<!\w)'[^']*'|egec:""", "", french)
        assert "'" not in text, french
        assert not re.search(rf"(?<!{NO_BREAK_SPACE})[;?!:»](\s|$)", text), french
        assert not re.search(rf"«(?!{NO_BREAK_SPACE})", text), french


def test_texts_that_the_code_joins_follow_french_typography(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "fr")
    translation.set_language({"LANG": "fr_FR.UTF-8"})
    try:
        joined = {
            separator: translate(join_words(separator, ["a", Words("yes"), "b; c"])) for separator in ("; ", ": ", ", ")
        }
    finally:
        translation.set_language({})
    assert joined == {
        "; ": f"a{NO_BREAK_SPACE}; oui{NO_BREAK_SPACE}; b; c",
        ": ": f"a{NO_BREAK_SPACE}: oui{NO_BREAK_SPACE}: b; c",
        ", ": "a, oui, b; c",
    }


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(catalogue.PACKAGE)) for path in MODULES])
def test_what_is_shown_has_no_colon_or_semicolon_that_no_translation_can_space(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"Part", "make_line"}:
            texts = [part for argument in node.args for part in ast.walk(argument) if isinstance(part, ast.Constant)]
            catalogued = {text for text, _ in catalogue.templates_of(path)}
            shown = [text.value for text in texts if isinstance(text.value, str) and text.value not in catalogued]
            assert not [text for text in shown if re.search("[:;] ", text)], f"{path}:{node.lineno}"


def test_the_compiled_catalogue_is_that_of_its_source() -> None:
    with catalogue.MO.open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    assert {text: compiled.gettext(text) for text in FRENCH_OF} == FRENCH_OF, "type: python -m tests.catalogue"


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(catalogue.PACKAGE)) for path in MODULES])
def test_templates_stand_in_the_code_as_they_are_in_the_catalogue(path: Path) -> None:
    for argument in catalogue.arguments_of(path):
        built = [node for node in ast.walk(argument) if isinstance(node, ast.JoinedStr | ast.BinOp | ast.BoolOp)]
        inner = [node for call in ast.walk(argument) if isinstance(call, ast.Call) for node in ast.walk(call)]
        assert [node for node in built if node not in inner] == [], f"{path}:{argument.lineno}: {ast.unparse(argument)}"


# What is shown.


@pytest.mark.parametrize("path", ["egec", "egec client", "egec db", *commands()])
def test_the_help_of_every_command_is_french_throughout(egec_process: Egec, path: str) -> None:
    arguments = path.split()[1:]
    ended = egec_process(*arguments, "--help", env=FRENCH | {"COLUMNS": "1000"})
    assert (ended.code, ended.err) == (0, "")
    shown = re.sub(r"\s+", " ", ended.out)
    assert shown.startswith("Utilisation : egec ")
    for text in (*(text for one in catalogue.commands() for text in catalogue.texts_of(one)), *catalogue.OF_TYPER):
        flat = re.sub(r"\s+", " ", text).split("{")[0].strip()
        if len(flat) > 8 and FRENCH_OF[text] != text:
            assert flat not in shown, flat
    assert not re.search(rf"(?<!{NO_BREAK_SPACE})[;:]\s", re.sub(r"`[^`]*`|egec:", "", ended.out))
    for word in ("Usage:", "Arguments:", "Options:", "Commands", "required", "default", "Example", "<str>", "<int"):
        assert word not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (("clent",), 2, "La commande 'clent' n'existe pas. Vouliez-vous dire 'client' ?", "Tapez `egec --help`."),
        (("--foo",), 2, "Option inconnue : --foo", "Tapez `egec --help`."),
        (("client", "list", "--limt", "3"), 2, "Option inconnue : --limt (possibles : --limit, --quiet)", "Tapez"),
        (("client", "create"), 2, "Il manque l'argument 'ADRESSE'.", "Tapez `egec client create --help`."),
        (("client", "disable", "x"), 2, "Il manque l'option '--reason'.", "Tapez `egec client disable --help`."),
        (("client", "list", "--limit"), 2, "L'option '--limit' demande une valeur.", "Tapez"),
        (("client", "list", "--all=3"), 2, "L'option '--all' ne prend pas de valeur.", "Tapez"),
        (("client", "list", "x", "y"), 2, "Argument(s) en trop (x y)", "Tapez"),
        (
            ("client", "list", "--limit", "x"),
            2,
            "Valeur incorrecte pour '--limit' : 'x' n'est pas un nombre entier.",
            "Tapez `egec client list --help`.",
        ),
        (("client", "list", "--limit", "-1"), 2, "-1 n'est pas dans l'intervalle x>=0.", "Tapez"),
        (("client", "list", "--status", "x"), 2, "'x' n'est pas l'une de ces valeurs : 'new', 'active'", "Tapez"),
        (("client", "show", "1234567890"), 67, "aucun client n'a l'identifiant '1234567890'", "Tapez `egec"),
        (("client", "create", "jeanne"), 65, "adresse électronique invalide 'jeanne' : il n'y a pas", "Corrigez"),
        (("client", "create", "a@example.org"), 73, "adresse a@example.org : appartient déjà au client", "Tapez"),
        (("client", "import", "none.csv"), 74, "none.csv : ce fichier ou ce dossier n'existe pas", "Corrigez"),
        (("audit", "list", "--since", "demain"), 2, "date ou ancienneté invalide : 'demain'", "Écrivez"),
        (("--env-file", "none", "init"), 78, "le fichier de réglages", "Corrigez le chemin après --env-file"),
    ],
)  # fmt: skip
def test_errors_are_shown_in_french(
    egec: Egec, egec_process: Egec, arguments: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    egec("client", "create", "a@example.org")
    ended = egec_process(*arguments, env=FRENCH)
    told = typed(ended.err)
    assert (ended.code, ended.out) == (code, "")
    assert told.startswith("egec: ")
    assert message in told
    assert f"\n      {hint}" in told


def test_faults_of_the_settings_and_notes_are_shown_in_french(egec_process: Egec) -> None:
    ended = egec_process("init", env=FRENCH | {"EGEC_BCRYPT_COST": "99", "EGEC_LANGUAGE": "de"})
    told = typed(ended.err)
    assert "EGEC_BCRYPT_COST doit être un nombre entier de 4 à 16. Exemple : EGEC_BCRYPT_COST=12" in told
    assert "EGEC_LANGUAGE doit être l'une de ces valeurs : fr, en. Exemple : EGEC_LANGUAGE=fr" in told
    assert "À corriger dans l'environnement ;" in told
    assert "a été créée" in typed(egec_process("client", "create", "a@example.org", env=FRENCH).err)
    assert "courriel enregistré dans" in typed(egec_process("activate", "a@example.org", env=FRENCH).err)


def test_the_doctor_and_the_check_of_mails_speak_french_in_a_table_alone(egec: Egec, egec_process: Egec) -> None:
    egec("init")
    for command in (("doctor",), ("mail", "check")):
        shown = egec_process(*command, env=FRENCH).out
        assert shown.startswith("check")
        for text, french in FRENCH_OF.items():
            if text != french and re.fullmatch(r"[a-z][^{}]{12,}", text):
                assert text not in shown
        assert "valable" in shown
        assert "les courriels sont enregistrés dans " in shown
        assert "Indiquez un serveur de messagerie dans EGEC_MAIL_URL." in shown


def test_the_reason_of_a_refused_login_is_shown_in_french(egec: Egec, egec_process: Egec) -> None:
    egec("client", "create", "a@example.org", "--identifier", "1234567890")
    ended = egec_process("verify", "--stdin", "--explain", stdin="1234567890\nx\n", env=FRENCH)
    assert (
        "Le compte n'a pas encore de mot de passe. Pour en envoyer un nouveau : `egec activate 1234567890`."
        in typed(ended.out)
    )


# Numbers: 0 and 1 take the singular in French.


def triples() -> list[tuple[str, str, str]]:
    """Return the texts for none, one and many of each thing that the program counts."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            elements: list[ast.expr] = []
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "count_words":
                elements = node.args[:3]
            elif isinstance(node, ast.Tuple) and len(node.elts) == 3:
                elements = [one.args[0] for one in node.elts if isinstance(one, ast.Call) and one.args]
            texts = [one.value for one in elements if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if len(texts) == 3 and "{number}" in texts[2]:
                found.append((texts[0], texts[1], texts[2]))
    return found


def test_each_counted_text_has_the_same_french_words_for_0_as_for_1() -> None:
    counted = [(none, one) for none, one, many in triples() if none == many.replace("{number}", "0", 1)]
    assert len(counted) >= 25
    for none, one in counted:
        assert re.sub(r"(?<![0-9])0(?= )", "1", FRENCH_OF[none]) == re.sub(r"(?<![0-9])0(?= )", "1", FRENCH_OF[one])


@pytest.fixture
def in_french(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands in this process speak French."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")


@pytest.mark.parametrize(
    ("command", "before", "one", "two"),
    [
        (["disable", "--reason", "left"], [], "1 désactivé", "2 désactivés"),
        (["enable"], ["disable", "--reason", "left"], "1 réactivé", "2 réactivés"),
        (["erase"], [], "1 effacé", "2 effacés"),
        (["unblock"], [], "1 inchangé", "2 inchangés"),
    ],
    ids=lambda one: " ".join(one) or "-" if isinstance(one, list) else one,
)
def test_the_summary_of_a_change_of_many_clients_is_french(
    egec: Egec, in_french: None, command: list[str], before: list[str], one: str, two: str
) -> None:
    for number, expected in ((1, one), (2, two)):
        emails = [f"c{number}{place}@example.org" for place in range(number)]
        for email in emails:
            egec("client", "create", email)
        Path("list.txt").write_text("".join(f"{email}\n" for email in emails))
        if before:
            egec("client", *before, "--from", "list.txt", "--yes")
        ended = egec("client", *command, "--from", "list.txt", "--yes")
        assert (ended.code, ended.err.splitlines()[-1]) == (0, f"egec: {expected}")
    Path("list.txt").write_text("nobody@example.org\n")
    ended = egec("client", *command, "--from", "list.txt", "--yes")
    assert (ended.code, ended.err.splitlines()[-1]) == (3, "egec: 1 échec")


def test_the_number_of_accepted_mails_is_french(
    egec: Egec, in_french: None, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "yes")
    for reference in ("D-1", "D-2"):
        egec("client", "create", "office@example.org", "--reference", reference)
    assert "egec: 2 courriels acceptés sur 2" in egec("activate", "office@example.org").err
    egec("client", "create", "other@example.org", "--reference", "D-3")
    egec("client", "create", "other@example.org", "--reference", "D-4")
    egec("client", "disable", "ref:D-4", "--reason", "left")
    assert "egec: 1 courriel accepté sur 1" in egec("activate", "other@example.org").err
    server.fail_always(Fault.RCPT_550)
    assert "egec: 0 courriel accepté sur 2" in egec("activate", "office@example.org").err


def test_other_numbers_are_french(egec: Egec, egec_process: Egec, in_french: None) -> None:
    egec("client", "create", "a@example.org", "--identifier", "1234567890")
    egec("activate", "1234567890")
    for typed_password, expected in (("x", "1 a été tapé."), ("xy", "2 ont été tapés.")):
        ended = egec_process(
            "verify", "--stdin", "--explain", "--no-count", stdin=f"1234567890\n{typed_password}\n", env=FRENCH
        )
        assert expected in ended.out
    ended = egec_process("verify", "--stdin", "--explain", stdin="1\nx\n", env=FRENCH)
    assert "1 caractère a été tapé." in ended.out
    for number, expected in ((1, "1 ligne rejetée"), (2, "2 lignes rejetées")):
        Path("table.csv").write_text("email\n" + "x\n" * number)
        assert expected in egec("client", "import", "table.csv", "--strict").err
    Path("table.csv").write_text("email\nb@example.org;Petit\n")
    assert "elle a 2 cellules, mais l'en-tête a 1 colonne" in typed(egec("client", "import", "table.csv").err)


@pytest.mark.parametrize(
    ("age", "expected"), [("0d", "0 jour"), ("1d", "1 jour"), ("2d", "2 jours"), ("0h", "0 heure"), ("2h", "2 heures")]
)
def test_ages_are_french(egec: Egec, in_french: None, age: str, expected: str) -> None:
    # The first command sets the language of this process.
    assert egec("init").code == 0
    assert f"il y a plus de {expected}" in translate(explain_selectors({"created_before": age}))


# What programs read.

MACHINES = [
    ("client", "list", "--format", "json"),
    ("client", "show", "1234567890", "--format", "json"),
    ("client", "show", "0", "--format", "json"),
    ("client", "lst", "--format", "json"),
    ("client", "list", "--limit", "x", "--format=csv"),
    ("client", "import", "none.csv", "--format", "json"),
    ("client", "export"),
    ("client", "export", "--format", "jsonl"),
    ("doctor", "--format", "json", "--fields", "check,verdict"),
    ("mail", "check", "--format", "json"),
    ("mail", "check", "--format", "csv"),
    ("audit", "list", "--format", "jsonl", "--fields", "action,outcome,details"),
    ("reissue", "status", "--format", "json"),
    ("db", "status", "--format", "json"),
    ("verify", "1234567890", "--password-stdin"),
    ("verify", "1234567890", "--password-stdin", "--explain", "--format", "json"),
]


@pytest.mark.parametrize("arguments", MACHINES, ids=" ".join)
def test_machine_output_is_the_same_byte_by_byte(egec: Egec, egec_process: Egec, arguments: tuple[str, ...]) -> None:
    egec("client", "create", "a@example.org", "--identifier", "1234567890", "--last-name", "Œuvre")
    english, french = (egec_process(*arguments, stdin="x", env=env) for env in ({}, FRENCH))
    assert english == french


def test_records_and_logs_are_always_english(egec: Egec, egec_process: Egec, server: MailServer) -> None:
    egec("client", "create", "a@example.org")
    server.fail_next(Fault.RCPT_550)
    ended = egec_process("activate", "a@example.org", env=FRENCH | {"EGEC_LOG": "json"})
    logged, told = (
        [line for line in ended.err.splitlines() if line.startswith("{") is is_log] for is_log in (True, False)
    )
    assert "refuse l'adresse a@example.org" in typed(told[0])
    assert json.loads(logged[-1])["outcome"] == "refused"
    recorded = egec("audit", "list", "--format", "json").out + egec("client", "show", "a@example.org", "--full").out
    assert "550 No such recipient" in recorded
    for text, french in FRENCH_OF.items():
        if text != french and re.fullmatch(r"[^{}]{12,}", french):
            assert french not in "".join(logged) + recorded


def test_no_words_in_the_environment_break_a_terminal_of_ascii(egec: Egec, egec_process: Egec) -> None:
    egec("init")
    ended = egec_process("client", "show", "x", env={"LC_ALL": "C", "LANGUAGE": "fr", "PYTHONUTF8": "0"})
    assert "no client has the e-mail" in ended.err
    ended = egec_process("client", "show", "x", env=FRENCH | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert "aucun client n'a l'adresse" in typed(ended.err)


def test_english_loads_no_catalogue(egec: Egec) -> None:
    egec("init")
    command = command_of(partial(children.run_and_print_modules, ["client", "list"], ["client", "--help"]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    [loaded] = done.stderr.splitlines()
    assert main.__name__ in loaded.split()
    assert not {typer_texts.__name__, typer_texts.__name__} & set(loaded.split())
