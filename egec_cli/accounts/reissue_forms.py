"""The mails of a run: its templates checked before the first mail leaves, and prepared for many clients."""

from collections.abc import Mapping

from egec_cli.mail import template_check
from egec_cli.mail.message import Form
from egec_cli.mail.wording import KINDS_OF_A_RUN, Kind
from egec_cli.settings import LANGUAGES, Settings


def kind_for(active_sequence: int) -> Kind:
    """Return which mail a client gets.

    Args:
        active_sequence: the client's. It rises when a password is accepted or imported, and never falls, whether that
            password is superseded, revoked or expires later. So 0 means that the client has never had one that worked.
    """
    return Kind.REISSUE if active_sequence else Kind.CREDENTIALS


def of(settings: Settings, sentence: str) -> Mapping[tuple[Kind, str], Form]:
    """Return the mails of a run by kind and language.

    Args:
        settings: where the templates are.
        sentence: that of the run; where it is empty, first mails have none and others that of the templates.

    Raises:
        Misconfigured: templates or settings make a mail that would not be read as written; all flaws are listed.
    """
    template_check.require_sound_templates(settings, sentence)
    return {
        (kind, language): Form(settings, language, kind, sentence) for kind in KINDS_OF_A_RUN for language in LANGUAGES
    }
