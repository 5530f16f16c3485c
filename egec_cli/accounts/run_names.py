"""The names of the re-issue runs, for a shell to complete: read at once or not at all."""

from egec_cli.settings import Database
from egec_cli.store import database
from egec_cli.store.database import tuples
from egec_cli.store.models import ReissueRun

# Somebody waits at a prompt. In seconds; libpq takes no less than two for a connection.
_PATIENCE = 1


def known(location: Database) -> list[str]:
    """Return the names of all runs, the latest first; the database is not changed.

    Raises:
        Misconfigured: there is no database, or a newer program has made it.
        NotNow, NotPermitted, FileSystemFailed: it cannot be read at this moment.
    """
    with database.opened_to_read(location, patience=_PATIENCE) as opened:
        database.require_known(database.applied(opened), str(location))
        return [name for (name,) in tuples(ReissueRun.select(ReissueRun.name).order_by(ReissueRun.id.desc()))]
