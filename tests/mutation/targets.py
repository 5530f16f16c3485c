"""The modules that are mutated, and the tests that have to notice: paths within the package and within the tests.

The tests of a module stand in the order in which they run: first those that are quick and notice much.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import egec_cli

PACKAGE = Path(egec_cli.__file__).parent
ROOT = PACKAGE.parent
TESTS = Path(__file__).parents[1]

_ISSUING = ("accounts/test_issuing.py", "commands/test_activate.py")
_RUNS = (
    "accounts/test_mail_pace.py",
    "accounts/test_reissue_items.py",
    "accounts/test_reissue.py",
    "commands/test_reissue.py",
    "test_reissue_kills.py",
)
_IMPORTS = ("accounts/test_importing.py", "commands/test_client_import.py", "accounts/test_spreadsheets.py")
_STORE = (
    "store/test_database.py",
    "store/test_create.py",
    "store/test_restoring.py",
    "store/test_backup.py",
    "store/test_failures.py",
    "store/test_upgrade.py",
)
_LOGINS = (
    "accounts/test_login_limits.py",
    "accounts/test_login_work.py",
    "accounts/test_login.py",
    "accounts/test_login_explained.py",
    "commands/test_verify.py",
)
_OUTPUT = (
    "commands/test_client_listing.py",
    "commands/test_contract.py",
    "commands/test_client.py",
    "commands/test_reissue.py",
    "accounts/test_audit.py",
    "test_main.py",
    "test_translation.py",
)

TARGETS: Mapping[str, Sequence[str]] = {
    # issuing
    "accounts/credentials.py": (
        "accounts/test_issuing.py",
        "accounts/test_login_explained.py",
        "accounts/test_bounces.py",
        "accounts/test_promises.py",
    ),
    "accounts/issuing.py": (*_ISSUING, "accounts/test_audit.py", "accounts/test_promises.py"),
    "hashing.py": ("test_hashing.py", "accounts/test_login_work.py"),
    "password.py": ("test_password.py",),
    # leases
    "accounts/leases.py": ("accounts/test_leases.py", *_ISSUING, "accounts/test_reissue.py"),
    # clients
    "email_address.py": ("test_email_address.py",),
    "identifier.py": ("test_identifier.py",),
    "accounts/fields.py": ("accounts/test_fields.py", "accounts/test_changing.py", "accounts/test_importing.py"),
    "accounts/selection.py": ("accounts/test_selection.py", "accounts/test_listing.py", "commands/test_reissue.py"),
    # logins
    "accounts/login.py": _LOGINS,
    "accounts/login_batch.py": ("commands/test_verify.py", "accounts/test_login.py"),
    "accounts/login_explained.py": _LOGINS,
    "accounts/login_limits.py": _LOGINS,
    "accounts/hash_costs.py": _LOGINS,
    # runs
    "accounts/mail_pace.py": _RUNS,
    "accounts/reissue.py": _RUNS,
    "accounts/reissue_items.py": _RUNS,
    "accounts/reissue_ledger.py": _RUNS,
    "accounts/reissue_threads.py": _RUNS,
    "accounts/reissue_worker.py": _RUNS,
    # imports
    "accounts/import_batch.py": _IMPORTS,
    "accounts/import_rows.py": _IMPORTS,
    "accounts/importing.py": _IMPORTS,
    "accounts/tables.py": _IMPORTS,
    # the database and restore
    "store/database.py": _STORE,
    "store/restoring.py": ("store/test_restoring.py", "store/test_backup.py", "store/test_failures.py"),
    "store/sqlite_copy.py": ("store/test_restoring.py", "store/test_backup.py", "store/test_failures.py"),
    "store/reading.py": ("store/test_reading.py",),
    # SMTP
    "mail/delivery.py": ("mail/test_smtp.py", "mail/test_sendmail.py", "mail/test_maildir.py"),
    "mail/smtp.py": ("mail/test_smtp.py", "commands/test_mail.py"),
    "mail/smtp_connection.py": ("mail/test_smtp_connection.py", "mail/test_smtp.py"),
    "mail/quoting.py": ("mail/test_quoting.py",),
    # settings
    "settings.py": ("test_settings.py", "test_docs.py"),
    "trusted_files.py": ("test_trusted_files.py",),
    # output
    "show.py": _OUTPUT,
}
