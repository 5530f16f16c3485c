"""The names of the re-issue runs, for a shell to complete: read at once or not at all."""

from egec_cli.settings.schema import Database
from egec_cli.store import database, schema
from egec_cli.store.models import ReissueRun
from egec_cli.store.sql import fetch_tuples

# Somebody waits at a prompt. In seconds; libpq takes no less than two for a connection.
_PATIENCE = 1


def list_run_names(location: Database) -> list[str]:
    """Return the names of all runs, the latest first; the database is not changed.

    Raises:
        ConfigError: there is no database, or a newer program has made it.
        TemporaryFailure, PermissionDenied, StorageError: it cannot be read at this moment.
    """
    with database.open_read_only(location, patience=_PATIENCE) as opened:
        schema.require_known_migrations(schema.read_applied_migrations(opened), str(location))
        return [name for (name,) in fetch_tuples(ReissueRun.select(ReissueRun.name).order_by(ReissueRun.id.desc()))]
