"""The mails of a re-issue run, proved before the first one leaves and ready to be filled in."""

from egec_cli.accounts import mail_check
from egec_cli.mail.message import Form
from egec_cli.mail.wording import Kind
from egec_cli.settings import LANGUAGES, Settings


def of(settings: Settings, sentence: str) -> dict[str, Form]:
    """Return the mail of a run in each language; the sentence is empty where that is for the templates to say.

    Raises:
        Misconfigured: templates or settings make mails that would not be read as they were meant; all flaws are told.
    """
    mail_check.require_sound_templates(settings, sentence)
    return {language: Form(settings, language, Kind.REISSUE, sentence) for language in LANGUAGES}
