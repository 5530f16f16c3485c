"""What is remembered: the tables and the database they live in.

peewee imports every PostgreSQL driver that it finds, which costs more than all the rest of a command's start.
It is kept from that here, before any module of this package can import it; `database.py` gives psycopg back to
it where the database is a PostgreSQL one.
"""

import sys

if "peewee" not in sys.modules:
    _DRIVERS = ("psycopg", "psycopg2", "psycopg2cffi", "pymysql", "MySQLdb", "pysqlite3")
    _hidden = [name for name in _DRIVERS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(_hidden))  # type: ignore[arg-type] # None makes an import fail
    import peewee  # noqa: F401 - imported for its effect

    for _name in _hidden:
        del sys.modules[_name]
