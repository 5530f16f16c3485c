"""Templates: strict placeholders, values that are never read as placeholders, files of the organisation's own."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.errors import ConfigError
from egec_cli.mail.compose import template
from egec_cli.mail.compose.template import BUILT_IN, Template
from egec_cli.settings import load
from egec_cli.settings.schema import LANGUAGES, Settings

TEXT = Path("own/mail.fr.txt")
HTML = Path("own/mail.fr.html")
CREDENTIALS = {
    "greeting",
    "sentence",
    "identifier",
    "password",
    "issued_at",
    "expiry",
    "app_name",
    "app_url",
    "support",
}
PLACEHOLDERS = {
    "credentials": CREDENTIALS,
    "reissue": CREDENTIALS,
    "address-changed": {"greeting", "changed_at", "app_name", "app_url", "support"},
    "greeting": {"name"},
    "expiry": {"date"},
    "not-sent": {"support"},
}
AWKWARD = ["$password", "${password}", "$$", "$", "${", "\\1", "{password}", "%(password)s", "[/]"]


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """Return settings with an empty folder of own templates."""
    folder = tmp_path / "own"
    folder.mkdir()
    return load.load_settings({})._replace(templates=folder)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a\nb $pasword", "own/mail.fr.txt:2: unknown placeholder $pasword"),
        ("${pass}", "own/mail.fr.txt:1: unknown placeholder $pass"),
        ("$Password", "own/mail.fr.txt:1: unknown placeholder $Password"),
        ("$passwords", "own/mail.fr.txt:1: unknown placeholder $passwords"),
        ("\n\n5 $ de frais", "own/mail.fr.txt:3: a dollar sign without a placeholder"),
        ("$password$", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("${password", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("${ password }", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("$$$", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("$é", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("$password\n$x\n$y", "own/mail.fr.txt:2: unknown placeholder $x"),
    ],
)
def test_an_unknown_placeholder_is_named_with_file_and_line(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Template(TEXT, text).render({"password": "p", "app_name": "eGEC"})
    assert refused.value.message == fault
    assert refused.value.hint == "Write $$ for a dollar sign; valid placeholders: $app_name, $password."


def test_a_text_without_placeholders_is_reported_as_such() -> None:
    with pytest.raises(ConfigError) as refused:
        Template(TEXT, "$x").render({})
    assert refused.value.hint.endswith("valid placeholders: none.")


@pytest.mark.parametrize("text", ["no placeholder", "$$password", "$other"])
def test_a_required_placeholder_must_be_used(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^own/mail\.fr\.txt:1: the text does not use \$password$"):
        Template(TEXT, text).render({"password": "p", "other": "o"}, required=["password"])


def test_two_dollar_signs_stand_for_one() -> None:
    assert Template(TEXT, "$$ $$5 $$password $$$password").render({"password": "p"}) == "$ $5 $password $p"


def test_placeholders_are_replaced_wherever_they_stand() -> None:
    assert Template(TEXT, "$a${a}s\n$a.$b-$a").render({"a": "x", "b": "y"}) == "xxs\nx.y-x"


@pytest.mark.parametrize("value", AWKWARD)
def test_what_a_value_holds_is_never_replaced(value: str) -> None:
    rendered = Template(TEXT, "$name|$password|$name").render({"name": value, "password": "SECRET"})
    assert rendered == f"{value}|SECRET|{value}"


@given(st.text(), st.text())
def test_values_come_out_of_a_text_as_they_went_in(name: str, password: str) -> None:
    rendered = Template(TEXT, "<$name>\n${password}").render({"name": name, "password": password})
    assert rendered == f"<{name}>\n{password}"


def test_values_are_escaped_in_html_alone() -> None:
    values = {"name": "<b onclick=\"x('&amp;')\">"}
    assert Template(HTML, "<p>$name</p>").render(values) == (
        "<p>&lt;b onclick=&quot;x(&#x27;&amp;amp;&#x27;)&quot;&gt;</p>"
    )
    assert Template(TEXT, "<p>$name</p>").render(values) == f"<p>{values['name']}</p>"


def test_an_own_folder_replaces_the_built_in_templates_file_by_file(own: Settings) -> None:
    assert own.templates
    (own.templates / "sent.fr.txt").write_text("Parti.\n\n", encoding="utf-8")
    assert template.render_text(own, "sent", "fr") == "Parti."
    assert template.find_template(own, "sent.fr.txt").path == own.templates / "sent.fr.txt"
    assert template.find_template(own, "sent.en.txt").path == BUILT_IN / "sent.en.txt"
    assert template.render_text(own, "refused", "fr") == "Identifiant et/ou m-d-p non reconnu(s)"


def test_a_text_must_use_every_value_that_it_is_given(own: Settings) -> None:
    assert own.templates
    (own.templates / "greeting.fr.txt").write_text("Bonjour,", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"greeting\.fr\.txt:1: the text does not use \$name"):
        template.render_text(own, "greeting", "fr", name="M. Dupont")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_any_editors_line_ends_and_byte_order_mark_are_taken(own: Settings, ending: str, encoding: str) -> None:
    assert own.templates
    (own.templates / "sent.fr.txt").write_bytes(f"Été{ending}$$1{ending}".encode(encoding))
    assert template.render_text(own, "sent", "fr") == "Été\n$1"


def test_a_template_that_is_not_utf_8_is_named_with_its_line(own: Settings) -> None:
    assert own.templates
    path = own.templates / "sent.fr.txt"
    path.write_bytes("Un\ndeux\nété".encode("cp1252"))
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}:3: the text is not UTF-8$") as refused:
        template.find_template(own, "sent.fr.txt")
    assert refused.value.hint == "Save the template as UTF-8."


def test_a_template_that_cannot_be_read_is_named(own: Settings) -> None:
    assert own.templates
    (own.templates / "sent.fr.txt").mkdir()
    for name in ("sent.fr.txt", "sent.de.txt"):
        with pytest.raises(ConfigError, match=rf"{re.escape(name)} cannot be read"):
            template.find_template(own, name)


@pytest.mark.parametrize("path", sorted(BUILT_IN.iterdir()), ids=lambda path: path.name)
def test_every_built_in_template_uses_its_placeholders_and_renders(path: Path) -> None:
    name, language, kind = path.name.split(".")
    assert language in LANGUAGES
    assert kind in {"txt", "html"}
    names = PLACEHOLDERS.get(name, set())
    rendered = template.find_template(load.load_settings({}), path.name).render(
        {n: f"<{n}>" for n in names}, required=names
    )
    assert "$" not in rendered
    assert all((f"<{n}>" in rendered) is (kind == "txt") for n in names)


def test_the_built_in_templates_exist_in_every_language() -> None:
    by_language = {
        language: {path.name.replace(f".{language}.", ".") for path in BUILT_IN.glob(f"*.{language}.*")}
        for language in LANGUAGES
    }
    assert by_language["fr"] == by_language["en"] != set()
    assert sum(map(len, by_language.values())) == len(list(BUILT_IN.iterdir()))


def test_clients_see_the_words_of_the_memo() -> None:
    found = load.load_settings({})
    assert template.render_text(found, "sent", "fr") == (
        "Un courriel a été envoyé dans votre b-a-l, avec des instructions.\n"
        "La réception peut atteindre 5 min. Vérifiez éventuellement dans vos SPAMs"
    )
    assert template.render_text(found, "refused", "fr") == "Identifiant et/ou m-d-p non reconnu(s)"
    assert template.render_text(found, "greeting", "fr", name="M. Dupont") == "M. Dupont, bonjour,"
