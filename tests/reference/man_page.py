"""The man pages `egec.1` in English and French, in the language of groff's `man` macros.

They are short: `egec COMMAND --help` and the guides say the rest.
"""

# ruff: noqa: RUF001 - French has typographic apostrophes

import gettext
import re
from collections.abc import Callable, Iterable, Iterator

from egec_cli import __version__
from egec_cli.errors import ExitCode
from egec_cli.translation import CATALOGUES, DOMAIN
from tests.reference import command_tree

_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq", "^": "\\(ha", "~": "\\(ti"}
_ESCAPES |= {"\N{NO-BREAK SPACE}": "\\~", "\N{NARROW NO-BREAK SPACE}": "\\~"}
_DESCRIPTION = (
    "Results go to standard output, everything else to standard error.",
    "`egec COMMAND --help` shows the options of a command, with an example.",
    "The guides say what to do when, step by step. They are in English.",
    "`egec help` lists them, `egec help NAME` shows one.",
    "`egec help CODE` explains an error code or an exit code.",
)
_FILES = {
    "./.env": "Settings, unless --env-file or EGEC_ENV_FILE names another file.",
    "~/.config/egec/egec.env": "Settings, if ./.env does not exist.",
    "/etc/egec/egec.env": "Settings, if neither of these exists.",
    "~/.local/share/egec/egec.db": "The SQLite database, unless EGEC_DATABASE_URL names another database.",
}
_ENVIRONMENT = {
    "EGEC_ENV_FILE": "The file of settings.",
    "EGEC_DATABASE_URL": "The database.",
    "EGEC_MAIL_URL": "The mail server.",
    "EGEC_*": "All other settings: type `egec help settings`.",
    "LC_ALL, LC_MESSAGES, LANG, LANGUAGE": "The language of messages, English or French.",
    "NO_COLOR, PAGER": "No colours; the program that shows long texts (default: less).",
}
_FRENCH = {
    "User Commands": "Commandes utilisateur",
    "NAME": "NOM",
    "SYNOPSIS": "SYNOPSIS",
    "DESCRIPTION": "DESCRIPTION",
    "COMMANDS": "COMMANDES",
    "OPTIONS": "OPTIONS",
    "EXIT STATUS": "CODE DE RETOUR",
    "ENVIRONMENT": "ENVIRONNEMENT",
    "FILES": "FICHIERS",
    "[options] command [options] [arguments]": "[options] commande [options] [arguments]",
    "administers the accounts of eGEC: clients, passwords by mail, logins": (
        "administre les comptes d’eGEC : clients, mots de passe par courriel, connexions"
    ),
    "Results go to standard output, everything else to standard error.": (
        "Les résultats vont sur la sortie standard, tout le reste sur la sortie d’erreur."
    ),
    "`egec COMMAND --help` shows the options of a command, with an example.": (
        "`egec COMMANDE --help` montre les options d’une commande, avec un exemple."
    ),
    "The guides say what to do when, step by step. They are in English.": (
        "Les guides disent que faire et quand, pas à pas. Ils sont en anglais."
    ),
    "`egec help` lists them, `egec help NAME` shows one.": "`egec help` les liste, `egec help NOM` en montre un.",
    "`egec help CODE` explains an error code or an exit code.": (
        "`egec help CODE` explique un code d’erreur ou un code de retour."
    ),
    "Settings, unless --env-file or EGEC_ENV_FILE names another file.": (
        "Réglages, sauf si --env-file ou EGEC_ENV_FILE désigne un autre fichier."
    ),
    "Settings, if ./.env does not exist.": "Réglages, si ./.env n’existe pas.",
    "Settings, if neither of these exists.": "Réglages, si aucun des deux n’existe.",
    "The SQLite database, unless EGEC_DATABASE_URL names another database.": (
        "La base SQLite, sauf si EGEC_DATABASE_URL désigne une autre base."
    ),
    "The file of settings.": "Le fichier des réglages.",
    "The database.": "La base de données.",
    "The mail server.": "Le serveur de messagerie.",
    "All other settings: type `egec help settings`.": "Tous les autres réglages : tapez `egec help settings`.",
    "The language of messages, English or French.": "La langue des messages, anglais ou français.",
    "No colours; the program that shows long texts (default: less).": (
        "Pas de couleurs ; le programme qui montre les longs textes (par défaut : less)."
    ),
    ExitCode.OK.meaning: "terminé ; connexion acceptée",
    ExitCode.REFUSED.meaning: "connexion refusée, ou confirmation non donnée",
    ExitCode.USAGE.meaning: "ligne de commande invalide",
    ExitCode.PARTLY_DONE.meaning: "terminé en partie : des lignes ou des clients ont échoué, chacun est indiqué",
    ExitCode.INVALID_INPUT.meaning: "saisie invalide",
    ExitCode.UNKNOWN_CLIENT.meaning: "client inconnu",
    ExitCode.INTERNAL_ERROR.meaning: "erreur interne",
    ExitCode.ALREADY_EXISTS.meaning: "existe déjà",
    ExitCode.FILE_SYSTEM.meaning: "erreur de fichier ou de disque",
    ExitCode.TEMPORARY_FAILURE.meaning: "échec temporaire ; rien n’est perdu, réessayez",
    ExitCode.NOT_PERMITTED.meaning: "non permis",
    ExitCode.CONFIGURATION.meaning: "configuration manquante ou invalide",
    ExitCode.HUNG_UP.meaning: "terminal fermé (SIGHUP) ; ce qui était commencé peut être repris",
    ExitCode.INTERRUPTED.meaning: "interrompu (Ctrl-C) ; ce qui était commencé peut être repris",
    ExitCode.BROKEN_PIPE.meaning: "le lecteur de la sortie a fermé le tube (comme dans `| head`)",
    ExitCode.TERMINATED.meaning: "arrêté (SIGTERM) ; ce qui était commencé peut être repris",
}


def english() -> str:
    """Return the English page."""
    return _page(lambda text: text)


def french() -> str:
    """Return the French page.

    Raises:
        KeyError: a text has no translation, neither here nor in the catalogue.
    """
    catalogue = gettext.translation(DOMAIN, CATALOGUES, languages=["fr"])

    def translate(text: str) -> str:
        translated = catalogue.gettext(text)
        # The space before these marks does not break.
        return translated if translated != text else re.sub(" ([:;])", "\N{NO-BREAK SPACE}\\1", _FRENCH[text])

    return _page(translate)


_Translate = Callable[[str], str]


def _page(translate: _Translate) -> str:
    return "\n".join(_lines(translate)) + "\n"


def _lines(translate: _Translate) -> Iterator[str]:
    yield '.\\" Generated from the program by: python -m tests.reference'
    yield f'.TH EGEC 1 "" "egec {__version__}" "{_plain(translate("User Commands"))}"'
    # No hyphenation, whose rules depend on the language, and no justification.
    yield ".nh"
    yield ".ad l"
    for name, lines in _sections(translate).items():
        yield f".SH {_plain(translate(name))}"
        yield from lines


def _sections(translate: _Translate) -> dict[str, Iterable[str]]:
    root = command_tree.describe_root()
    commands = ((one.path, translate(one.declared_help).partition("\n")[0]) for one in command_tree.commands())
    options = ((" ".join([*one.names, one.value]).strip(), translate(one.help)) for one in root.options)
    exits = ((str(code.value), translate(code.meaning)) for code in ExitCode)
    variables = ((name, translate(meaning)) for name, meaning in _ENVIRONMENT.items())
    files = ((name, translate(meaning)) for name, meaning in _FILES.items())
    name = translate("administers the accounts of eGEC: clients, passwords by mail, logins")
    return {
        "NAME": [f"egec \\- {_plain(name)}"],
        "SYNOPSIS": [f"{_bold('egec')} {_plain(translate('[options] command [options] [arguments]'))}"],
        "DESCRIPTION": [_plain(translate(sentence)) for sentence in _DESCRIPTION],
        "COMMANDS": _entries(18, commands),
        "OPTIONS": _entries(18, options),
        "EXIT STATUS": _entries(6, exits),
        "ENVIRONMENT": _entries(20, variables),
        "FILES": _entries(30, files),
    }


def _entries(indent: int, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    # No blank lines between the entries.
    yield ".PD 0"
    for name, meaning in entries:
        yield f'.IP "{_bold(name)}" {indent}'
        yield _plain(meaning)
    yield ".PD"


def _bold(text: str) -> str:
    return f"\\fB{_plain(text)}\\fR"


def _plain(text: str) -> str:
    """Escape a text for groff."""
    escaped = "".join(_ESCAPES.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
