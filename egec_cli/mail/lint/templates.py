"""Check the templates with sample clients whose data are difficult, and report each flaw with its correction."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from difflib import SequenceMatcher, get_close_matches
from typing import NamedTuple

from egec_cli.errors import ConfigError
from egec_cli.mail.compose import message, template
from egec_cli.mail.compose.template import (
    BUILT_IN,
    KINDS_OF_A_RUN,
    REQUIRED,
    SHARED,
    Kind,
    KindTemplates,
    Template,
)
from egec_cli.mail.lint.html import Flaw, Page, Word, find_page_flaws
from egec_cli.password import Password
from egec_cli.settings.types import LANGUAGES, Settings
from egec_cli.translation import Words, join_words

# The short texts, each with the placeholders that it must use.
LINES: dict[str, tuple[str, ...]] = {
    "greeting": ("name",),
    "greeting-unnamed": (),
    "expiry": ("date",),
    "reissue-sentence": (),
    "shared": ("record",),
    "test": (),
    "refused": (),
    "not-sent": ("support",),
    "try-again": ("support",),
    "unavailable": ("support",),
}
SENT = "sent"
# The short texts that the mails of a run use.
_LINES_OF_A_RUN = ("greeting", "greeting-unnamed", "expiry", "reissue-sentence", "shared")
_LINES_OF_A_NOTICE = ("greeting", "greeting-unnamed")
_MAY_HAVE_SEVERAL_LINES = {SENT, "not-sent", "try-again", "unavailable"}

# Mail programs cut longer subjects in their lists.
LONGEST_SUBJECT = 60
# Gmail cuts the HTML of a mail at 102 kB.
LARGEST_MAIL = 100_000
# RFC 5322, 2.1.1.
_LONGEST_LINE = 998

_AT = datetime(2026, 12, 31, 22, 59, 59, tzinfo=UTC)
_NAMES = (
    "M. Dupont",
    "",
    "Mme Éléonore-Anaïs Noëlle d\u2019Œuvre-Lefèvre de l\u2019Haÿ-les-Roses-sous-la-Forêt-d\u2019Été " + "é" * 20,
    "R&D \"Été\" <b>'100 % de $password & ${identifier}'</b> &amp; {x} %(password)s",
)
# With every default special character, and all that HTML or quoted-printable must encode.
_PASSWORDS = tuple(map(Password, ("fG69a*6jH", "#%+=?*-!a", "&<>\"'$=7B", "=3D=C3&lt")))
_IDENTIFIER = "9876543210"
_LONG_ADDRESS = f"{'jeanne.dupont.' * 4}x@{'service-informatique.' * 4}example.org"
_SENTENCE = 'Suite à l\u2019incident du 1er décembre : "100 % sûr", <R&D>, $password {x}.'

_RECORD = 'D-2047 & "Été" <b>$password</b> {x}'

# Optional placeholders that a mail should use.
_ADVISED = {
    "issued_at": Words("clients cannot recognise the latest mail"),
    "expiry": Words("clients do not learn when an unused password expires"),
}
# List markers and rules drawn with characters; HTML has other means for both.
_ORNAMENT = re.compile(r"[-=_~\u2022\u2013\u2014]+")


class _Sample(NamedTuple):
    name: str
    password: Password
    recipient: str


_SAMPLES = [
    *(_Sample(name, _PASSWORDS[0], "jeanne@example.org") for name in _NAMES),
    *(_Sample(_NAMES[0], password, "jeanne@example.org") for password in _PASSWORDS[1:]),
    _Sample(_NAMES[0], _PASSWORDS[0], _LONG_ADDRESS),
]


def find_kind_flaws(settings: Settings, kind: Kind, language: str, sentence: str | None = None) -> list[Flaw]:
    """Return the flaws of the templates of a kind in a language.

    Args:
        settings: the folder of templates.
        sentence: that of a run, which may be empty; None checks for any run and for single mails.
    """
    try:
        sources = KindTemplates.find(settings, kind, language)
        # Check all placeholders in a text with a sentence.
        values = _sample_values(
            settings, kind, language, sentence or _default_sentence(kind, sentence), _SAMPLES[0], _RECORD
        )
        names_record = values.get(SHARED) and all(_uses(source, SHARED) for source in (sources.text, sources.html))
        samples = [
            (_sample_values(settings, kind, language, words, sample, record), sample)
            for words, sample in _pair_sentences(kind, sentence)
            for record in (["", _RECORD] if names_record and sample == _SAMPLES[0] else [""])
        ]
    except ConfigError as error:
        return [_to_flaw(error)]
    required = (*REQUIRED[kind], "sentence") if sentence and kind is Kind.CREDENTIALS else REQUIRED[kind]
    if settings.shared_email and SHARED in values:
        required = (*required, SHARED)
    mistaken = [
        Flaw(f"{source.path}:{mistake.line}", mistake.what, mistake.fix)
        for source in (sources.text, sources.html)
        for mistake in source.find_mistakes(values, required)
    ]
    found = [
        *_find_hidden_characters(sources.text),
        *_find_hidden_characters(sources.html),
        *_find_glued(sources.text),
        *_find_missing_advice(settings, sources, values),
    ]
    if kind is Kind.CREDENTIALS and sentence is None:
        found += _find_missing_sentence(sources)
    if mistaken:
        # The text cannot be filled in, so the other checks are impossible.
        return mistaken + found
    found += _find_subject_flaws(sources.text, values)
    found += find_page_flaws(sources.html, sources.html.substitute(values), language)
    if kind is Kind.CREDENTIALS and not (
        sentence != "" and all(_uses(source, "sentence") for source in (sources.text, sources.html))
    ):
        # This mail never has a sentence, so one part may lack a place for it.
        values |= {"sentence": ""}
    found += _find_differences(sources, sources.text.substitute(values), sources.html.substitute(values))
    return found + _find_damage(settings, sources, samples)


def _default_sentence(kind: Kind, sentence: str | None) -> str:
    return "" if kind is Kind.REISSUE and sentence is not None else _SENTENCE


def _pair_sentences(kind: Kind, sentence: str | None) -> Iterator[tuple[str, _Sample]]:
    """Yield each sample with its sentence: a first mail must work both with and without one."""
    if sentence is None and kind is Kind.CREDENTIALS:
        yield _SENTENCE, _SAMPLES[0]
        sentence = ""
    for sample in _SAMPLES:
        yield _SENTENCE if sentence is None else sentence, sample


def find_line_flaws(settings: Settings, name: str, language: str) -> list[Flaw]:
    """Return the flaws of a short text."""
    try:
        source = template.find_template(settings, f"{name}.{language}.txt")
    except ConfigError as error:
        return [_to_flaw(error)]
    required = LINES.get(name, ())
    found = [Flaw(f"{source.path}:{one.line}", one.what, one.fix) for one in source.find_mistakes(required, required)]
    found += _find_hidden_characters(source)
    if not source.text.strip():
        found.append(Flaw(f"{source.path}:1", Words("the text is empty"), Words("Write the text or delete the file.")))
    elif name not in _MAY_HAVE_SEVERAL_LINES and "\n" in source.text.strip():
        found.append(Flaw(f"{source.path}:2", Words("the text has more than one line"), Words("Write it in one line.")))
    return found


def require_sound_templates(settings: Settings, sentence: str) -> None:
    """Check the templates of a run with this sentence.

    Raises:
        ConfigError: flaws prevent the run; the message lists all of them.
    """
    lines = [find_line_flaws(settings, name, language) for language in LANGUAGES for name in _LINES_OF_A_RUN]
    kinds = [find_kind_flaws(settings, kind, language, sentence) for language in LANGUAGES for kind in KINDS_OF_A_RUN]
    _require_sound([flaw for found in (*lines, *kinds) for flaw in found])


def require_sound_notice(settings: Settings) -> None:
    """Check the templates of the notice that an account will be closed.

    Raises:
        ConfigError: they have flaws; the message lists all of them.
    """
    lines = [find_line_flaws(settings, name, language) for language in LANGUAGES for name in _LINES_OF_A_NOTICE]
    kinds = [find_kind_flaws(settings, Kind.CLOSING, language) for language in LANGUAGES]
    _require_sound([flaw for found in (*lines, *kinds) for flaw in found])


def _require_sound(found: Sequence[Flaw]) -> None:
    flaws = [flaw for flaw in found if flaw.is_fatal]
    if flaws:
        # Files may be checked, and flaws found, several times.
        listed = dict.fromkeys(Words("{where}: {what}", where=flaw.where, what=flaw.what) for flaw in flaws)
        fix = flaws[0].fix if len(listed) == 1 else Words("Type `egec mail check --no-connection` for the corrections.")
        raise ConfigError(join_words("\n", listed), fix)


def find_unused_files(settings: Settings) -> list[Flaw]:
    """Return the files in the organisation's folder that are not templates because of their names."""
    if settings.templates is None:
        return []
    known = {path.name for path in BUILT_IN.iterdir()}
    return [
        Flaw(
            str(path),
            Words("unknown template name; the file is never read"),
            _suggest_name(path.name, known),
            is_fatal=False,
        )
        for path in sorted(settings.templates.iterdir())
        if path.name not in known and not path.name.startswith((".", "README"))
    ]


def _suggest_name(name: str, known: set[str]) -> str:
    meant = get_close_matches(name, known, 1)
    return Words("Rename it to {meant}, or delete it.", meant=meant[0]) if meant else Words("Delete it.")


def _to_flaw(error: ConfigError) -> Flaw:
    where, _, what = error.message.partition(": ")
    return Flaw(where, what, error.hint) if what else Flaw("", error.message, error.hint)


def _sample_values(
    settings: Settings, kind: Kind, language: str, sentence: str, sample: _Sample, record: str = ""
) -> dict[str, str]:
    return template.all_values(
        settings,
        kind,
        language,
        name=sample.name,
        identifier=_IDENTIFIER,
        password=sample.password,
        sentence=sentence,
        at=_AT,
        record=record,
    )


def _find_hidden_characters(source: Template) -> Iterator[Flaw]:
    for number, line in enumerate(source.text.split("\n"), start=1):
        for character in line:
            if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} and character not in "\t\u200d":
                what = Words("hidden character U+{code_point:04X}", code_point=ord(character))
                yield Flaw(f"{source.path}:{number}", what, Words("Type the line again."))


def _find_glued(source: Template) -> Iterator[Flaw]:
    lines = source.text.split("\n")
    for number, name in source.find_placeholders():
        if name in {"identifier", "password"} and number > 1 and lines[number - 1] not in {f"${name}", f"${{{name}}}"}:
            yield Flaw(
                f"{source.path}:{number}",
                Words("${name} shares its line with other text or blanks, which would be copied too", name=name),
                Words("Write ${name} in a line of its own, without blanks before or after it.", name=name),
            )


def _find_missing_advice(settings: Settings, sources: KindTemplates, values: Mapping[str, str]) -> Iterator[Flaw]:
    used = {name for _, name in sources.text.find_placeholders()}
    for name, what in _ADVISED.items():
        if name in values and name not in used and not (name == "expiry" and not settings.unused_password_days):
            yield Flaw(
                f"{sources.text.path}:1",
                what,
                Words("Write ${name} where the client should read it.", name=name),
                is_fatal=False,
            )


def _find_missing_sentence(sources: KindTemplates) -> Iterator[Flaw]:
    for source in (sources.text, sources.html):
        if not _uses(source, "sentence"):
            yield Flaw(
                f"{source.path}:1",
                Words("unusable for a run with --sentence: the text does not use ${name}", name="sentence"),
                Words("Write ${name} where the client should read it.", name="sentence"),
                is_fatal=False,
            )


def _uses(source: Template, placeholder: str) -> bool:
    return placeholder in {name for _, name in source.find_placeholders()}


def _find_subject_flaws(source: Template, values: Mapping[str, str]) -> Iterator[Flaw]:
    where = f"{source.path}:1"
    subject = source.substitute(values).partition("\n")[0].removeprefix("Subject:").strip()
    used = {name for number, name in source.find_placeholders() if number == 1 and name}
    if not subject:
        yield Flaw(where, Words("the mail has no subject"), Words("Write it after `Subject: `."))
    elif len(subject) > LONGEST_SUBJECT:
        what = Words("the subject has {length} characters; mail programs cut it in their lists", length=len(subject))
        yield Flaw(where, what, Words("Use at most {most}.", most=LONGEST_SUBJECT), is_fatal=False)
    if own := sorted(used & set(message.PER_CLIENT)):
        what = Words("the subject has ${own}: anyone can read it in a list, and it slows down bulk runs", own=own[0])
        yield Flaw(where, what, Words("Remove ${own} from the first line.", own=own[0]), is_fatal=False)


def _find_differences(sources: KindTemplates, text: str, page: str) -> Iterator[Flaw]:
    """Yield the differences between the two parts: spam filters punish them, and readers of one part miss a text."""
    in_text, in_page = _drop_ornaments(_split_words(text)), _drop_ornaments(Page(page).words)
    if [word.text for word in in_text] == [word.text for word in in_page]:
        return
    matcher = SequenceMatcher(None, [w.text for w in in_page], [w.text for w in in_text], autojunk=False)
    for what, first, last, text_first, text_last in matcher.get_opcodes():
        if what != "equal":
            yield Flaw(
                f"{sources.html.path}:{_line_at(in_page, first)}",
                Words(
                    "the text is {said}, but {other} in {name}:{line}",
                    said=_quote(in_page[first:last]),
                    name=sources.text.path.name,
                    line=_line_at(in_text, text_first),
                    other=_quote(in_text[text_first:text_last]),
                ),
                Words("Use the same words in both files."),
            )


def _split_words(text: str) -> list[Word]:
    """Return the words below the subject."""
    lines = text.split("\n")[1:]
    return [Word(word, number) for number, line in enumerate(lines, start=2) for word in line.split()]


def _drop_ornaments(words: Sequence[Word]) -> list[Word]:
    return [word for word in words if not _ORNAMENT.fullmatch(word.text)]


def _line_at(words: Sequence[Word], place: int) -> int:
    return words[min(place, len(words) - 1)].line if words else 1


def _quote(words: Sequence[Word]) -> str:
    shown = " ".join(word.text for word in words[:8]) + (" …" if len(words) > 8 else "")
    return f"“{shown}”" if words else "nothing"


def _find_damage(
    settings: Settings, sources: KindTemplates, samples: list[tuple[dict[str, str], _Sample]]
) -> list[Flaw]:
    """Return why a mail would be damaged, for the first such sample."""
    first_line = f"{sources.text.path}:1"
    for values, sample in samples:
        try:
            mail = message.finish_mail(settings, sources.fill(values), sample.recipient, _AT)
        except ConfigError as error:
            # Damage by the standard library has no line; settings have no file.
            is_about_the_mail = error.message.startswith("the mail ")
            return [Flaw(first_line, error.message, error.hint) if is_about_the_mail else _to_flaw(error)]
        if max(map(len, mail.content.split(b"\r\n"))) > _LONGEST_LINE:
            return [
                Flaw(first_line, Words("the mail has a line of more than 998 octets"), Words("Shorten the subject."))
            ]
        if len(mail.content) > LARGEST_MAIL:
            what = Words("the mail has {octets} octets; some mail programs cut it", octets=len(mail.content))
            return [Flaw(f"{sources.html.path}:1", what, Words("Shorten it to {most} octets.", most=LARGEST_MAIL))]
    return []
