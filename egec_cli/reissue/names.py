"""The names of all runs, for shell completion: read quickly or not at all."""

from egec_cli.settings.schema import Database
from egec_cli.store import database, schema
from egec_cli.store.models import ReissueRun
from egec_cli.store.sql import fetch_tuples

# In seconds: the operator is waiting at a prompt. libpq allows at least two for a connection.
_PATIENCE = 1


def list_run_names(location: Database) -> list[str]:
    """Return the names of all runs, the latest first, without changing the database.

    Raises:
        ConfigError: the database does not exist, or a newer version created it.
        TemporaryFailure, PermissionDenied, StorageError: it cannot be read now.
    """
    with database.open_read_only(location, patience=_PATIENCE) as opened:
        schema.require_known_migrations(schema.read_applied_migrations(opened), str(location))
        return [name for (name,) in fetch_tuples(ReissueRun.select(ReissueRun.name).order_by(ReissueRun.id.desc()))]
