"""The database: tables, migrations, engines (SQLite and PostgreSQL), SQL for many rows, backup and restore.

May import: settings, output and the small modules; never mail or a subject.

Importing peewee takes longer than the rest of a command's start: it imports every database driver that it finds, and
standard modules that few commands use. This package prevents both while it imports peewee, so other packages import
peewee from here. `postgresql.py` gives psycopg back to peewee if the database is PostgreSQL.
"""

import importlib
import sys
from types import ModuleType

_DRIVERS = ("psycopg", "psycopg2", "psycopg2cffi", "pymysql", "MySQLdb")


class _LoadedOnUse(ModuleType):
    """Stands in peewee for a module that it does not use while it is imported."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            # The import system looks for some of these.
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def _stand_ins() -> dict[str, ModuleType | None]:
    modules: dict[str, ModuleType | None] = dict.fromkeys(_DRIVERS)  # None makes an import fail
    modules |= {name: _LoadedOnUse(name) for name in ("calendar", "hashlib", "inspect", "socket", "uuid")}
    # All that peewee takes from `inspect`, by name while it is imported.
    vars(modules["inspect"])["isclass"] = lambda value: isinstance(value, type)
    return {name: module for name, module in modules.items() if name not in sys.modules}


_absent = _stand_ins()
sys.modules.update(_absent)  # type: ignore[arg-type] # None makes an import fail
try:
    import peewee
finally:
    for _name in _absent:
        del sys.modules[_name]

__all__ = ["as_peewee_errors", "peewee"]

# A block in which a driver's errors are raised as peewee's.
as_peewee_errors = peewee.ExceptionWrapper(peewee.EXCEPTIONS)  # type: ignore[attr-defined] # its types lack it
