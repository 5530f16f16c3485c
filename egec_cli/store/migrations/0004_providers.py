"""Add what runs keep about mail servers: mails counted towards quotas, pauses, slower rates, and first attempts."""

import peewee


class _Time(peewee.Field):
    field_type = "TIMESTAMPTZ"


def up(migrator, db):
    """Add the table, empty, and the columns."""

    class MailCount(peewee.Model):
        id = peewee.AutoField()
        ends_at = _Time()
        mails = peewee.IntegerField()
        owner = peewee.TextField(null=True)

        class Meta:
            database = db
            table_name = "mail_count"
            indexes = ((("ends_at", "mails"), False),)

    db.create_tables([MailCount], safe=False)
    migrator.migrate(
        migrator.rename_column("mail_pace", "next_at", "last_at"),
        migrator.add_column("reissue_run", "paused_until", _Time(null=True)),
        migrator.add_column("reissue_run", "pauses", peewee.IntegerField(default=0)),
        migrator.add_column("reissue_run", "throttle", peewee.TextField(null=True)),
        migrator.add_column("reissue_item", "tried_since", _Time(null=True)),
    )
