"""Django's own bcrypt, at the cost that is measured."""
# mypy: disable-error-code="import-untyped, misc"
# Django carries no types, so its classes are Any.

import os

from django.contrib.auth.hashers import BCryptPasswordHasher


class Hasher(BCryptPasswordHasher):
    """The hasher for `PASSWORD_HASHERS`."""

    rounds = int(os.environ["BCRYPT_COST"])
