"""Words for bash, held against bash itself."""

import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from egec_cli.commands import completion
from tests.programs import require_program

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "), max_size=20)
HARD = st.text("a b'\"\\$`!~(){}[]*?;&|<>#=:^%é", max_size=12)


def as_typed(text: str, quote: str) -> str:
    """Return a whole word as it stands in a line behind a Tab."""
    opened = quote + completion.quote_word(text, quote)
    return opened if opened.endswith(quote) and len(opened) > 1 else opened + quote


def as_bash_reads(words: list[str]) -> list[str]:
    done = subprocess.run(
        [require_program("bash"), "--norc", "-c", f"printf '%s\\0' {' '.join(words)}"],
        capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=60)
@given(st.lists(TEXTS | HARD, min_size=1, max_size=12))
def test_bash_reads_a_quoted_word_as_the_original(texts: list[str]) -> None:
    for quote in ("", "'", '"'):
        wanted = [text for text in texts if text or quote]
        if wanted:
            assert as_bash_reads([as_typed(text, quote) for text in wanted]) == wanted


@given(TEXTS | HARD)
def test_a_quoted_word_is_parsed_as_the_original(text: str) -> None:
    for quote in ("", "'", '"'):
        assert completion.parse_word(as_typed(text, quote)) == (text, "", "")


@given(st.text("ab'\"\\ $`", max_size=12))
def test_a_word_is_parsed_as_bash_parses_it(raw: str) -> None:
    read = completion.parse_word(raw)
    if not read.quote and not raw.endswith("\\") and "$" not in raw and "`" not in raw and " " not in raw and raw:
        assert as_bash_reads([f"x{raw}"]) == [f"x{read.text}"]


def test_the_text_before_an_open_quotation_mark_is_known() -> None:
    assert completion.parse_word("'my r") == ("my r", "'", "")
    assert completion.parse_word("my' r") == ("my r", "'", "my")
    assert completion.parse_word("a'b'\"c\\\"d") == ('abc"d', '"', "ab")
    assert completion.parse_word("a\\ b") == ("a b", "", "")
    assert completion.parse_word("a\\") == ("a", "", "")
