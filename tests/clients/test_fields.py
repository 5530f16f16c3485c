"""The fields of a client: what passes unchanged, what is normalized, what is refused."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.clients import fields
from egec_cli.errors import InvalidInput

NAMES = [
    "Noëlle d'Œuvre-N'Guessan", "José María", "Ægir 山田", "O\u2019Brien", "Đặng Thị Ánh", "Łukasz", "محمد علي",
    "ශ්\u200dරී", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "葛\U000e0100城", "X Æ A-12",
    "[/]", "[red]", "$password", "${x}", "<script>", "&amp;",
    "=1+1", "%s", "{name}", "'; DROP TABLE client; --", "\\n", "=", "?", "? =", "Jr.", "a" * 100,
]  # fmt: skip
INVISIBLE = {
    "line break": "\n", "carriage return": "\r", "tab": "\t", "NUL": "\0", "escape": "\x1b", "delete": "\x7f",
    "C1 control": "\x9b", "next line": "\x85", "line separator": "\u2028", "paragraph separator": "\u2029",
    "right-to-left override": "\u202e", "left-to-right override": "\u202d", "embedding": "\u202a", "isolate": "\u2066",
    "right-to-left mark": "\u200f", "zero-width space": "\u200b", "word joiner": "\u2060", "BOM": "\ufeff",
    "soft hyphen": "\u00ad", "grapheme joiner": "\u034f", "Hangul filler": "\u3164", "Braille blank": "\u2800",
    "tag": "\U000e0041", "lone surrogate": "\ud800", "surrogate escape": "\udce9", "private use": "\ue000",
    "no character": "\uffff",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_passes_unchanged(name: str) -> None:
    assert fields.clean_line("last name", name) == name


@pytest.mark.parametrize("name", ["=?utf-8?q?x=0D=0ABcc:_evil@x.fr?=", "Jeanne =?", "=?"])
def test_an_encoded_word_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"^the first name has =\?, which mail programs take for an encoded word$"):
        fields.clean_line("first name", name)


@pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE)
def test_a_control_or_invisible_character_is_refused_by_its_number(character: str) -> None:
    for name in (character, f"Du{character}pont", f"Dupont{character}"):
        with pytest.raises(
            InvalidInput, match=rf"^the last name has the character U\+{ord(character):04X}, "
        ) as refused:
            fields.clean_line("last name", name)
        assert refused.value.message.isprintable()
        assert refused.value.hint == "Type the last name again instead of pasting it."


def test_a_colour_sequence_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"U\+001B"):
        fields.clean_line("last name", "\x1b[31mDupont\x1b[0m")


def test_a_stored_name_has_at_most_100_characters() -> None:
    assert fields.clean_line("last name", " " + "e\u0301" * 100 + "  ") == "é" * 100
    with pytest.raises(InvalidInput, match=r"^the last name has 101 characters$") as refused:
        fields.clean_line("last name", "a" * 101)
    assert "at most 100" in refused.value.hint


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("e\u0301", "é"),
        ("  Jeanne   Marie ", "Jeanne Marie"),
        ("Le\u00a0Goff", "Le Goff"),
        ("山田\u3000太郎", "山田 太郎"),
        (" ", ""),
    ],
)
def test_a_name_is_stored_in_nfc_with_single_spaces(typed: str, kept: str) -> None:
    assert fields.clean_line("last name", typed) == kept


@given(st.text(st.characters()))
def test_a_stored_name_is_one_printable_line_and_stays_the_same_when_cleaned_again(text: str) -> None:
    try:
        kept = fields.clean_line("last name", text)
    except InvalidInput:
        return
    assert fields.clean_line("last name", kept) == kept == " ".join(kept.split())
    assert kept.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert unicodedata.is_normalized("NFC", kept)
    assert len(kept) <= 100
    assert "=?" not in kept


@pytest.mark.parametrize(
    ("typed", "civility"),
    [
        ("M.", "M."), ("m", "M."), ("Monsieur", "M."), ("MME", "Mme"), ("Mme.", "Mme"), (" madame ", "Mme"),
        ("mlle", "Mlle"), ("Mademoiselle", "Mlle"), ("dr.", "Dr"), ("Docteur", "Dr"), ("PR", "Pr"),
        ("professeur", "Pr"), ("me", "Me"), ("MAÎTRE", "Me"), ("mai\u0302tre", "Me"), ("mr.", "Mr"),
        ("Mrs", "Mrs"), ("MS", "Ms"), ("mx", "Mx"), ("", ""), ("  ", ""),
    ],
)  # fmt: skip
def test_a_civility_has_one_spelling(typed: str, civility: str) -> None:
    assert fields.parse_civility(typed) == civility


@pytest.mark.parametrize("civility", fields.CIVILITIES)
def test_every_civility_is_its_own_spelling(civility: str) -> None:
    assert fields.parse_civility(civility) == civility


@pytest.mark.parametrize("typed", [".", "Sir", "M. Dupont", "M\u202e", "Mme\nBcc: evil@x.fr"])
def test_any_other_civility_is_refused(typed: str) -> None:
    with pytest.raises(InvalidInput, match="civility"):
        fields.parse_civility(typed)


@pytest.mark.parametrize(("typed", "language"), [("fr", "fr"), (" EN ", "en"), ("", ""), (" ", "")])
def test_a_language_is_accepted_by_its_code(typed: str, language: str) -> None:
    assert fields.parse_language(typed) == language


@pytest.mark.parametrize("typed", ["de", "français", "fr_FR", "../fr", "\ud800"])
def test_an_unknown_language_is_refused_with_the_list_of_known_ones(typed: str) -> None:
    with pytest.raises(InvalidInput, match="unknown language") as refused:
        fields.parse_language(typed)
    assert refused.value.hint == "Use one of: fr, en."
    assert refused.value.message.isprintable()


def test_each_field_is_normalized() -> None:
    checked = fields.parse_fields(
        " Jeanne@X.fr ",
        given_identifier=" 1234567890 ",
        reference=" A  7 ",
        civility="madame",
        first_name=" Jeanne",
        last_name="Dupont ",
        language="FR",
        valid_from=" 2026-01-31",
        valid_until="2026-01-31 ",
    )
    assert checked.email.key == "jeanne@x.fr"
    assert checked[1:] == ("1234567890", "A 7", "Mme", "Jeanne", "Dupont", "fr", "2026-01-31", "2026-01-31")


def test_only_the_e_mail_is_required() -> None:
    assert fields.parse_fields("a@x.fr")[1:] == (None, None, "", "", "", "", None, None)
    assert fields.parse_fields("a@x.fr", reference="  ").reference is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("given_identifier", "0123456789", "invalid identifier"),
        ("reference", "A\t7", "the reference has the character"),
        ("civility", "Sir", "^unknown civility: 'Sir'$"),
        ("first_name", "\x00", "the first name has the character"),
        ("last_name", "=?", "the last name has =\\?"),
        ("language", "de", "^unknown language: 'de'$"),
    ],
)
def test_the_message_names_the_field_that_is_wrong(field: str, value: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fields.parse_fields("a@x.fr", **{field: value})


@pytest.mark.parametrize("empty", ["", "  ", "\N{NO-BREAK SPACE}"])
def test_a_sentence_is_not_empty(empty: str) -> None:
    with pytest.raises(InvalidInput, match="the sentence is empty"):
        fields.clean_sentence(empty)


def test_a_sentence_has_at_most_300_characters() -> None:
    assert fields.clean_sentence("x" * 300) == "x" * 300
    with pytest.raises(InvalidInput, match="the sentence has 301 characters"):
        fields.clean_sentence("x" * 301)


@pytest.mark.parametrize("typed", [" Jean  Paul", "Jean  Paul", "Jean Paul ", "Jean \u2003Paul"])
def test_spaces_are_stripped_and_collapsed(typed: str) -> None:
    assert fields.parse_fields("jeanne@example.org", last_name=typed).last_name == "Jean Paul"


@pytest.mark.parametrize(
    "typed",
    ["2026-02-29", "2026-13-01", "2026-00-10", "0000-01-01", "2026-1-5", "26-01-05", "20260105", "2026-W05-6",
     "31/01/2026", "2026-01-05T00:00", "202\u0666-01-05", "+2026-01-05", "tomorrow", "2026-01-05\n2026-01-06"],
)  # fmt: skip
def test_a_date_that_does_not_exist_or_is_written_otherwise_is_refused(typed: str) -> None:
    with pytest.raises(InvalidInput, match="invalid date") as refused:
        fields.parse_day(typed)
    assert refused.value.hint == "Write it as 2026-01-31."
    with pytest.raises(InvalidInput, match="invalid date"):
        fields.parse_fields("a@x.fr", valid_from=typed)
    with pytest.raises(InvalidInput, match="invalid date"):
        fields.parse_fields("a@x.fr", valid_until=typed)


@pytest.mark.parametrize("day", ["2024-02-29", "0001-01-01", "9999-12-31"])
def test_a_date_that_exists_is_kept_as_typed(day: str) -> None:
    assert fields.parse_day(f" {day} ") == day
    assert fields.parse_day(" ") is None


def test_a_validity_may_not_end_before_it_begins() -> None:
    with pytest.raises(InvalidInput, match="the validity ends on 2026-01-31, before it begins on 2026-02-01"):
        fields.parse_fields("a@x.fr", valid_from="2026-02-01", valid_until="2026-01-31")
