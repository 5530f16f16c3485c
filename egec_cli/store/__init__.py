"""The database: tables, migrations, engines (SQLite and PostgreSQL), SQL for many rows, backup and restore.

May import: settings, output and the small modules; never mail or a subject.

peewee imports every PostgreSQL driver that it finds, which takes longer than the rest of a command's start. This
package prevents that before any of its modules imports peewee; `postgresql.py` gives psycopg back to it if the database
is PostgreSQL. Other packages import peewee from here.
"""

import sys

_DRIVERS = [name for name in ("psycopg", "psycopg2", "psycopg2cffi") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_DRIVERS))  # type: ignore[arg-type] # None makes an import fail
try:
    import peewee
finally:
    for _name in _DRIVERS:
        del sys.modules[_name]

__all__ = ["as_peewee_errors", "peewee"]

# A block in which a driver's errors are raised as peewee's.
as_peewee_errors = peewee.ExceptionWrapper(peewee.EXCEPTIONS)  # type: ignore[attr-defined] # its types lack it
