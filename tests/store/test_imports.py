"""peewee is imported without the modules that few commands use, and still works with them."""

import inspect
from typing import Any

from egec_cli import store

peewee: Any = store.peewee


def test_modules_that_peewee_does_not_load_at_its_start_work_at_their_first_use() -> None:
    # With these, peewee names long constraints and server-side cursors, and reads UUID and IP columns.
    assert peewee.hashlib.md5(b"").hexdigest() == "d41d8cd98f00b204e9800998ecf8427e"
    assert peewee.UUIDField().db_value(peewee.uuid.UUID(int=1)) == "00000000000000000000000000000001"
    assert peewee.IPField().db_value("127.0.0.1") == 0x7F000001
    assert peewee.TimestampField(utc=True).db_value(0) == 0


def test_the_rest_of_the_program_sees_the_real_modules() -> None:
    assert inspect.isclass(int)
    assert inspect.signature(len)
