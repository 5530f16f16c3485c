"""Django's own bcrypt, at the cost that is measured."""
# mypy: disable-error-code="import-untyped, misc"
# Django carries no types, so its classes are Any.

import os

from django.contrib.auth.hashers import BCryptPasswordHasher


class Hasher(BCryptPasswordHasher):
    """What `PASSWORD_HASHERS` names."""

    rounds = int(os.environ["BCRYPT_COST"])
