"""What delivery reports tell: of a credential whether its mail came back and why, of a client when the last one did."""

import peewee


class _Time(peewee.Field):
    field_type = "TIMESTAMPTZ"


def up(migrator, db):
    """Add the columns, empty."""
    migrator.migrate(
        migrator.add_column("client", "email_changed_at", _Time(null=True)),
        migrator.add_column("client", "email_bounced_at", _Time(null=True)),
        migrator.add_column("credential", "bounced_at", _Time(null=True)),
        migrator.add_column("credential", "bounce", peewee.TextField(null=True)),
    )
