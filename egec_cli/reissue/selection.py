"""What a run was started with, as its row stores it: the selectors, the quotas, and the organisation's sentence."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from egec_cli.clients.select import Selected
from egec_cli.clients.selector_words import LISTS
from egec_cli.context import Context
from egec_cli.settings.parsing import format_rate, parse_rate
from egec_cli.settings.schema import Rate


class RunOptions(NamedTuple):
    """The settings of one run.

    Attributes:
        rate: the quotas of mails; None for those of EGEC_MAIL_RATE.
        sentence: the organisation's sentence in each mail; empty for the sentence of the templates.
    """

    rate: Rate | None = None
    sentence: str = ""

    @classmethod
    def parse(cls, stored: str) -> Self:
        """Parse the options that a run's row stores."""
        options = json.loads(stored)
        rate = options.get("rate")
        # Versions before 0.1.0 stored a number of mails per second.
        return cls(None if rate is None else parse_rate(str(rate)), options.get("sentence", ""))

    def to_json(self) -> str:
        """Return the options as a run's row stores them."""
        return json.dumps({"rate": None if self.rate is None else format_rate(self.rate), "sentence": self.sentence})


def stored_selection(context: Context, selected: Selected) -> str:
    """Return the selectors as a run's row stores them: a list as a salted hash that is as slow as a password's.

    With a plain digest, someone who holds the database could test guessed lists, even after their clients were erased.
    """
    # Imported here: most commands about runs hash nothing.
    from egec_cli.hashing import hash_text

    salted = {
        field: {"bcrypt": hash_text(one.sha256, context.settings.bcrypt_cost), "column": one.column}
        for field, one in selected.lists.items()
    }
    return json.dumps(selected.described | salted, sort_keys=True)


def is_same_selection(stored: Mapping[str, Any], selected: Selected) -> bool:
    """Return whether a run's row stores these selectors; versions before 0.1.0 stored digests without a salt."""
    from egec_cli.hashing import matches_hash

    return (
        {field: value for field, value in stored.items() if field not in LISTS} == selected.described
        and LISTS & stored.keys() == selected.lists.keys()
        and all(
            stored[field]["column"] == one.column
            and (
                matches_hash(one.sha256, stored[field]["bcrypt"])
                if "bcrypt" in stored[field]
                else stored[field]["sha256"] == one.sha256
            )
            for field, one in selected.lists.items()
        )
    )
