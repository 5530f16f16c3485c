"""The templates proved with awkward clients before a real one reads them: every flaw, with file, line and cure."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from difflib import SequenceMatcher, get_close_matches
from typing import NamedTuple

from egec_cli.errors import ConfigError
from egec_cli.mail.compose import message, template, wording
from egec_cli.mail.compose.template import BUILT_IN, Template
from egec_cli.mail.compose.wording import KINDS_OF_A_RUN, REQUIRED, Kind, KindTemplates
from egec_cli.mail.lint.html import Flaw, Page, Word, find_page_flaws
from egec_cli.password import Password
from egec_cli.settings.schema import LANGUAGES, Settings
from egec_cli.translation import Words, join_words

# Short texts of one line by their names, with the placeholders that they must use.
LINES: dict[str, tuple[str, ...]] = {
    "greeting": ("name",),
    "greeting-unnamed": (),
    "expiry": ("date",),
    "reissue-sentence": (),
    "test": (),
    "refused": (),
    "not-sent": ("support",),
}
SENT = "sent"
# What the mails of a run need besides their own templates.
_LINES_OF_A_RUN = ("greeting", "greeting-unnamed", "expiry", "reissue-sentence")
_MAY_HAVE_SEVERAL_LINES = {SENT, "not-sent"}

# Longer subjects are cut short in the lists of mail programs.
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
# With every special that passwords have by default, and with all that HTML or quoted-printable writes otherwise.
_PASSWORDS = tuple(map(Password, ("fG69a*6jH", "#%+=?*-!a", "&<>\"'$=7B", "=3D=C3&lt")))
_IDENTIFIER = "9876543210"
_LONG_ADDRESS = f"{'jeanne.dupont.' * 4}x@{'service-informatique.' * 4}example.org"
_SENTENCE = 'Suite à l\u2019incident du 1er décembre : "100 % sûr", <R&D>, $password {x}.'

# What a mail should say too, where the organisation has not decided otherwise.
_ADVISED = {
    "issued_at": Words("the client cannot tell which mail is the latest"),
    "expiry": Words("the client is not told when the password stops working if it is not used"),
}
# A mark before the items of a list, or a rule drawn by characters: HTML has other means for both.
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
    """Return what is wrong with the templates of a kind in a language.

    Args:
        settings: where the templates are.
        kind: of the mail.
        language: of the mail.
        sentence: that of a run, which may be empty; None to check the templates for any run, and for single mails.
    """
    try:
        sources = KindTemplates.find(settings, kind, language)
        # Every placeholder is looked at in a text that has a sentence.
        values = _values(settings, kind, language, sentence or _usual_sentence(kind, sentence), _SAMPLES[0])
        samples = [
            (_values(settings, kind, language, words, sample), sample)
            for words, sample in _sentences_of_samples(kind, sentence)
        ]
    except ConfigError as error:
        return [_unreadable(error)]
    required = (*REQUIRED[kind], "sentence") if sentence and kind is Kind.CREDENTIALS else REQUIRED[kind]
    mistaken = [
        Flaw(f"{source.path}:{mistake.line}", mistake.what, mistake.cure)
        for source in (sources.text, sources.html)
        for mistake in source.mistakes(values, required)
    ]
    found = [*_hidden(sources.text), *_hidden(sources.html), *_glued(sources.text), *_unsaid(settings, sources, values)]
    if kind is Kind.CREDENTIALS and sentence is None:
        found += _without_sentence(sources)
    if mistaken:
        # It cannot be filled in, so no more is to be learned.
        return mistaken + found
    found += _subject(sources.text, values)
    found += find_page_flaws(sources.html, sources.html.filled(values), language)
    if kind is Kind.CREDENTIALS and not (sentence != "" and all(map(_has_sentence, (sources.text, sources.html)))):
        # Such a mail never has a sentence, so it does not matter that one part has no place for it.
        values |= {"sentence": ""}
    found += _said_otherwise(sources, sources.text.filled(values), sources.html.filled(values))
    return found + _cannot_leave(settings, sources, samples)


def _usual_sentence(kind: Kind, sentence: str | None) -> str:
    return "" if kind is Kind.REISSUE and sentence is not None else _SENTENCE


def _sentences_of_samples(kind: Kind, sentence: str | None) -> Iterator[tuple[str, _Sample]]:
    """Yield the sentence of each sample mail: a first mail must be fit to leave both with and without one."""
    if sentence is None and kind is Kind.CREDENTIALS:
        yield _SENTENCE, _SAMPLES[0]
        sentence = ""
    for sample in _SAMPLES:
        yield _SENTENCE if sentence is None else sentence, sample


def find_line_flaws(settings: Settings, name: str, language: str) -> list[Flaw]:
    """Return what is wrong with a short text."""
    try:
        source = template.find_template(settings, f"{name}.{language}.txt")
    except ConfigError as error:
        return [_unreadable(error)]
    required = LINES.get(name, ())
    found = [Flaw(f"{source.path}:{one.line}", one.what, one.cure) for one in source.mistakes(required, required)]
    found += _hidden(source)
    if not source.text.strip():
        found.append(Flaw(f"{source.path}:1", Words("the text is empty"), Words("Write it, or take the file away.")))
    elif name not in _MAY_HAVE_SEVERAL_LINES and "\n" in source.text.strip():
        found.append(Flaw(f"{source.path}:2", Words("the text has more than one line"), Words("Write it in one line.")))
    return found


def require_sound_templates(settings: Settings, sentence: str) -> None:
    """Check the templates of a run that has this sentence.

    Raises:
        ConfigError: they have flaws that stop the run; the message lists all of them.
    """
    lines = [find_line_flaws(settings, name, language) for language in LANGUAGES for name in _LINES_OF_A_RUN]
    kinds = [find_kind_flaws(settings, kind, language, sentence) for language in LANGUAGES for kind in KINDS_OF_A_RUN]
    flaws = [flaw for found in (*lines, *kinds) for flaw in found if flaw.is_fatal]
    if flaws:
        # One file may have the same flaw in several places of a mail.
        listed = dict.fromkeys(Words("{where}: {what}", where=flaw.where, what=flaw.what) for flaw in flaws)
        cure = flaws[0].cure if len(listed) == 1 else Words("Type `egec mail check --no-connection` for the cures.")
        raise ConfigError(join_words("\n", listed), cure)


def find_unused_files(settings: Settings) -> list[Flaw]:
    """Return the files of the organisation's own folder that are never read, for their names are no template's."""
    if settings.templates is None:
        return []
    known = {path.name for path in BUILT_IN.iterdir()}
    return [
        Flaw(
            str(path),
            Words("no template has this name, so the file is never read"),
            _right_name(path.name, known),
            is_fatal=False,
        )
        for path in sorted(settings.templates.iterdir())
        if path.name not in known and not path.name.startswith((".", "README"))
    ]


def _right_name(name: str, known: set[str]) -> str:
    meant = get_close_matches(name, known, 1)
    return Words("Rename it to {meant}, or take it away.", meant=meant[0]) if meant else Words("Take it away.")


def _unreadable(error: ConfigError) -> Flaw:
    where, _, what = error.message.partition(": ")
    return Flaw(where, what, error.hint) if what else Flaw("", error.message, error.hint)


def _values(settings: Settings, kind: Kind, language: str, sentence: str, sample: _Sample) -> dict[str, str]:
    return wording.all_values(
        settings,
        kind,
        language,
        name=sample.name,
        identifier=_IDENTIFIER,
        password=sample.password,
        sentence=sentence,
        at=_AT,
    )


def _hidden(source: Template) -> Iterator[Flaw]:
    for number, line in enumerate(source.text.split("\n"), start=1):
        for character in line:
            if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} and character not in "\t\u200d":
                what = Words("the text has the hidden character U+{code_point:04X}", code_point=ord(character))
                yield Flaw(f"{source.path}:{number}", what, Words("Type the line anew."))


def _glued(source: Template) -> Iterator[Flaw]:
    lines = source.text.split("\n")
    for number, name in source.placeholders():
        if name in {"identifier", "password"} and number > 1 and lines[number - 1] not in {f"${name}", f"${{{name}}}"}:
            yield Flaw(
                f"{source.path}:{number}",
                Words("${name} is not alone in its line: other text or blanks would be copied along", name=name),
                Words("Write ${name} in a line of its own, with no blank before or behind it.", name=name),
            )


def _unsaid(settings: Settings, sources: KindTemplates, values: Mapping[str, str]) -> Iterator[Flaw]:
    used = {name for _, name in sources.text.placeholders()}
    for name, what in _ADVISED.items():
        if name in values and name not in used and not (name == "expiry" and not settings.unused_password_days):
            yield Flaw(
                f"{sources.text.path}:1",
                what,
                Words("Write ${name} where it is to be told.", name=name),
                is_fatal=False,
            )


def _without_sentence(sources: KindTemplates) -> Iterator[Flaw]:
    for source in (sources.text, sources.html):
        if not _has_sentence(source):
            yield Flaw(
                f"{source.path}:1",
                Words("a run with --sentence cannot use it: the text never uses ${name}", name="sentence"),
                Words("Write ${name} where the client is to read it.", name="sentence"),
                is_fatal=False,
            )


def _has_sentence(source: Template) -> bool:
    return "sentence" in {name for _, name in source.placeholders()}


def _subject(source: Template, values: Mapping[str, str]) -> Iterator[Flaw]:
    where = f"{source.path}:1"
    subject = source.filled(values).partition("\n")[0].removeprefix("Subject:").strip()
    used = {name for number, name in source.placeholders() if number == 1 and name}
    if not subject:
        yield Flaw(where, Words("the mail has no subject"), Words("Write it behind `Subject: `."))
    elif len(subject) > LONGEST_SUBJECT:
        what = Words("the subject has {length} characters, and lists of mails cut it short", length=len(subject))
        yield Flaw(where, what, Words("Use at most {most}.", most=LONGEST_SUBJECT), is_fatal=False)
    if own := sorted(used & set(message.PER_CLIENT)):
        what = Words("the subject has ${own}: all can read it in a list, and a bulk run is slowed down", own=own[0])
        yield Flaw(where, what, Words("Take ${own} out of the first line.", own=own[0]), is_fatal=False)


def _said_otherwise(sources: KindTemplates, text: str, page: str) -> Iterator[Flaw]:
    """Yield where the two parts say different things, which filters punish, and readers of one of them miss."""
    in_text, in_page = _meant(_words(text)), _meant(Page(page).words)
    if [word.text for word in in_text] == [word.text for word in in_page]:
        return
    matcher = SequenceMatcher(None, [w.text for w in in_page], [w.text for w in in_text], autojunk=False)
    for what, first, last, text_first, text_last in matcher.get_opcodes():
        if what != "equal":
            yield Flaw(
                f"{sources.html.path}:{_line(in_page, first)}",
                Words(
                    "it says {said} where {name}:{line} says {other}",
                    said=_quoted(in_page[first:last]),
                    name=sources.text.path.name,
                    line=_line(in_text, text_first),
                    other=_quoted(in_text[text_first:text_last]),
                ),
                Words("Let both files say the same words."),
            )


def _words(text: str) -> list[Word]:
    """Return the words of a plain text below its subject."""
    lines = text.split("\n")[1:]
    return [Word(word, number) for number, line in enumerate(lines, start=2) for word in line.split()]


def _meant(words: Sequence[Word]) -> list[Word]:
    return [word for word in words if not _ORNAMENT.fullmatch(word.text)]


def _line(words: Sequence[Word], place: int) -> int:
    return words[min(place, len(words) - 1)].line if words else 1


def _quoted(words: Sequence[Word]) -> str:
    shown = " ".join(word.text for word in words[:8]) + (" …" if len(words) > 8 else "")
    return f"“{shown}”" if words else "nothing"


def _cannot_leave(
    settings: Settings, sources: KindTemplates, samples: list[tuple[dict[str, str], _Sample]]
) -> list[Flaw]:
    """Return why a mail would not arrive as it was written, of the first sample of which that is so."""
    first_line = f"{sources.text.path}:1"
    for values, sample in samples:
        try:
            mail = message.finish_mail(settings, sources.filled(values), sample.recipient, _AT)
        except ConfigError as error:
            # What the standard library garbles has no line of its own; the settings have no file here.
            is_about_the_mail = error.message.startswith("the mail ")
            return [Flaw(first_line, error.message, error.hint) if is_about_the_mail else _unreadable(error)]
        if max(map(len, mail.content.split(b"\r\n"))) > _LONGEST_LINE:
            return [Flaw(first_line, Words("the mail has a line of over 998 octets"), Words("Shorten the subject."))]
        if len(mail.content) > LARGEST_MAIL:
            what = Words("the mail has {octets} octets, and some mail programs cut it short", octets=len(mail.content))
            return [Flaw(f"{sources.html.path}:1", what, Words("Shorten it to {most}.", most=LARGEST_MAIL))]
    return []
