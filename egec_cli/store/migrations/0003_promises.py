"""Add the places of logins that are being compared, and facts about the installation that outlive a process."""

import peewee


class _Time(peewee.Field):
    field_type = "TIMESTAMPTZ"


def up(migrator, db):
    """Create both tables, empty."""

    class Client(peewee.Model):
        id = peewee.AutoField()

        class Meta:
            database = db

    class LoginPlace(peewee.Model):
        id = peewee.AutoField()
        client = peewee.ForeignKeyField(Client)
        expires_at = _Time()

        class Meta:
            database = db
            table_name = "login_place"

    class Installation(peewee.Model):
        id = peewee.AutoField()
        name = peewee.TextField(unique=True)
        value = peewee.TextField()

        class Meta:
            database = db
            table_name = "installation"

    db.create_tables([LoginPlace, Installation], safe=False)
