"""What is remembered: the tables and the database they live in.

peewee imports every PostgreSQL driver that it finds, which costs more than all the rest of a command's start.
It is kept from that here, before any module of this package can import it; `database.py` gives psycopg back to
it where the database is a PostgreSQL one. Who needs peewee outside this package takes it from here.
"""

import sys

_DRIVERS = [name for name in ("psycopg", "psycopg2", "psycopg2cffi") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_DRIVERS))  # type: ignore[arg-type] # None makes an import fail
try:
    import peewee
finally:
    for _name in _DRIVERS:
        del sys.modules[_name]

__all__ = ["peewee"]
