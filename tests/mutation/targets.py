"""The modules that are mutated, and the tests that have to notice: paths within the package and within the tests.

The tests of a module stand in the order in which they run: first those that are quick and notice much.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import egec_cli

PACKAGE = Path(egec_cli.__file__).parent
ROOT = PACKAGE.parent
TESTS = Path(__file__).parents[1]

_ISSUING = ("credentials/test_issue.py", "commands/test_activate.py")
_RUNS = (
    "reissue/test_items.py",
    "reissue/test_refusals.py",
    "reissue/test_runs.py",
    "commands/test_reissue.py",
    "test_reissue_kills.py",
)
_IMPORTS = (
    "imports/test_formats.py",
    "imports/test_run.py",
    "imports/test_json_tables.py",
    "commands/test_import_report.py",
    "commands/test_client_import.py",
    "imports/test_spreadsheets.py",
    "imports/test_sharing.py",
    "imports/test_validity.py",
)
_STORE = (
    "store/test_database.py",
    "store/test_create.py",
    "store/test_restore.py",
    "store/test_backup.py",
    "store/test_failures.py",
    "store/test_upgrade.py",
    "store/test_reading.py",
    "store/test_sql.py",
)
_LOGINS = (
    "logins/test_limits.py",
    "logins/test_work.py",
    "logins/test_verify.py",
    "logins/test_explain.py",
    "logins/test_sources.py",
    "commands/test_verify.py",
)
_OUTPUT = (
    "commands/test_client_listing.py",
    "commands/test_contract.py",
    "commands/test_client.py",
    "commands/test_reissue.py",
    "audit/test_recording.py",
    "test_main.py",
    "test_translation.py",
)

TARGETS: Mapping[str, Sequence[str]] = {
    # issuing
    "credentials/states.py": (
        "credentials/test_issue.py",
        "logins/test_explain.py",
        "logins/test_work.py",
        "credentials/test_bounces.py",
        "credentials/test_promises.py",
    ),
    "credentials/issue.py": (
        *_ISSUING,
        "credentials/test_shared_emails.py",
        "credentials/test_issue_each.py",
        "commands/test_activate_each.py",
        "audit/test_recording.py",
        "credentials/test_promises.py",
    ),
    "hashing.py": ("test_hashing.py", "logins/test_work.py"),
    "password.py": ("test_password.py",),
    # leases and quotas
    "credentials/leases.py": ("credentials/test_leases.py", *_ISSUING, "reissue/test_runs.py"),
    "credentials/quotas.py": ("credentials/test_quotas.py", *_ISSUING, "reissue/test_runs.py"),
    # clients
    "email_address.py": ("test_email_address.py",),
    "identifier.py": ("test_identifier.py",),
    "clients/fields.py": ("clients/test_fields.py", "clients/test_change.py", "imports/test_run.py"),
    "clients/bulk.py": ("clients/test_bulk.py", "commands/test_client_bulk.py"),
    "clients/change.py": ("clients/test_change.py", "clients/test_bulk.py", "commands/test_client_changes.py"),
    "clients/closing.py": (
        "clients/test_closing.py",
        "clients/test_closing_life.py",
        "commands/test_client_closing.py",
    ),
    "clients/name_files.py": ("clients/test_select.py", "clients/test_shared_emails.py", "clients/test_change.py"),
    "clients/update.py": ("clients/test_change.py", "clients/test_shared_emails.py", "commands/test_mail.py"),
    "credentials/shared_emails.py": (
        "credentials/test_shared_emails.py",
        "clients/test_shared_emails.py",
        "imports/test_sharing.py",
        "credentials/test_issue_each.py",
    ),
    "credentials/validity.py": ("credentials/test_validity.py", "clients/test_records.py", "commands/test_validity.py"),
    "clients/select.py": (
        "clients/test_select.py",
        "clients/test_lists.py",
        "clients/test_change.py",
        "commands/test_reissue.py",
    ),
    # logins
    "logins/verify.py": _LOGINS,
    "logins/batch.py": ("commands/test_verify.py", "logins/test_verify.py"),
    "logins/explain.py": _LOGINS,
    "logins/limits.py": _LOGINS,
    "logins/sources.py": ("logins/test_sources.py", "commands/test_verify_origins.py"),
    "networks.py": ("test_networks.py", "logins/test_sources.py", "requests/test_process.py"),
    # requests
    "requests/process.py": ("requests/test_process.py", "commands/test_activate_request.py"),
    "requests/texts.py": ("commands/test_activate_request.py", "requests/test_process.py"),
    # runs
    "reissue/runs.py": _RUNS,
    "reissue/items.py": _RUNS,
    "reissue/settle.py": _RUNS,
    "reissue/threads.py": ("reissue/test_threads.py", *_RUNS),
    "reissue/worker.py": _RUNS,
    "reissue/pace.py": _RUNS,
    "reissue/report.py": (
        "reissue/test_report.py",
        "reissue/test_items.py",
        "reissue/test_refusals.py",
        "commands/test_reissue.py",
    ),
    "reissue/backoff.py": ("reissue/test_backoff.py", "reissue/test_refusals.py"),
    "reissue/server_watch.py": ("reissue/test_server_watch.py", "reissue/test_refusals.py"),
    "reissue/messages.py": (
        "reissue/test_messages.py",
        "reissue/test_refusals.py",
        "reissue/test_runs.py",
        "commands/test_reissue.py",
    ),
    # imports
    "imports/columns.py": _IMPORTS,
    "imports/formats.py": _IMPORTS,
    "imports/json_tables.py": _IMPORTS,
    "imports/merge.py": _IMPORTS,
    "imports/rows.py": _IMPORTS,
    "imports/run.py": _IMPORTS,
    "imports/tables.py": _IMPORTS,
    # the database and restore
    "store/database.py": _STORE,
    "store/postgresql.py": _STORE,
    "store/sql.py": _STORE,
    "store/sqlite.py": _STORE,
    "store/backup.py": ("store/test_restore.py", "store/test_backup.py", "store/test_failures.py"),
    "store/sqlite_file.py": (
        "store/test_restore.py",
        "store/test_backup.py",
        "store/test_failures.py",
        "store/test_reading.py",
    ),
    # SMTP
    "mail/transports/interface.py": (
        "mail/transports/test_quoting.py",
        "mail/transports/test_smtp.py",
        "mail/transports/test_sendmail.py",
        "mail/transports/test_maildir.py",
    ),
    "mail/transports/reply_rules.py": ("mail/transports/test_reply_rules.py", "mail/transports/test_smtp.py"),
    "mail/transports/smtp.py": ("mail/transports/test_smtp.py", "commands/test_mail.py"),
    "mail/transports/smtp_connection.py": ("mail/transports/test_smtp_connection.py", "mail/transports/test_smtp.py"),
    # settings
    "settings/env_file.py": ("settings/test_load.py", "test_docs.py"),
    "settings/load.py": ("settings/test_load.py", "settings/test_parsing.py", "test_docs.py"),
    "settings/parsing.py": ("settings/test_parsing.py", "settings/test_load.py", "test_docs.py"),
    "settings/schema.py": ("settings/test_load.py", "settings/test_parsing.py", "test_docs.py"),
    "settings/trust.py": ("settings/test_trust.py",),
    # statistics
    "stats/counts.py": ("stats/test_counts.py",),
    "stats/metrics.py": ("stats/test_metrics.py",),
    "output/openmetrics.py": ("output/test_openmetrics.py",),
    # output
    "output/formats.py": ("output/test_formula_guard.py", "output/test_terminal.py", *_OUTPUT),
    "output/messages.py": ("output/test_messages.py", "output/test_terminal.py", *_OUTPUT),
    "output/terminal.py": ("output/test_terminal.py", "commands/test_stats.py", "commands/test_find.py", *_OUTPUT),
}
