"""Add what the life of an account needs: validity dates, a notice of closing, shared e-mails, and fast selectors."""

import peewee


class _Time(peewee.Field):
    field_type = "TIMESTAMPTZ"


def up(migrator, db):
    """Add the columns; the key of an e-mail is from now on unique together with the place among those who share it."""
    # A column with a default is added without a copy of the table, however large it is.
    db.execute_sql('ALTER TABLE "client" ADD COLUMN "email_share" INTEGER NOT NULL DEFAULT 0')
    migrator.migrate(
        migrator.add_column("client", "valid_from", peewee.TextField(null=True)),
        migrator.add_column("client", "valid_until", peewee.TextField(null=True)),
        migrator.add_column("client", "closing_notified_at", _Time(null=True)),
        migrator.drop_index("client", "client_email_key"),
        migrator.add_index("client", ("email_key", "email_share"), True),
    )
    client = peewee.Table("client", ("id", "email_share")).bind(db)
    db.execute(
        peewee.Index(
            "client_sharing", client, (client.email_share, client.id), where=client.email_share > peewee.SQL("0")
        )
    )
    # For the few clients who may be blocked, and those with an undeliverable address.
    db.execute_sql(
        'CREATE INDEX "client_blocked" ON "client" ("blocked_until", "id") WHERE "blocked_until" IS NOT NULL'
    )
    db.execute_sql(
        'CREATE INDEX "credential_failed" ON "credential" ("client_id")'
        ' WHERE "state" = \'refused\' OR "bounced_at" IS NOT NULL'
    )
    # For clients by the domain of their e-mail, in order of creation.
    domain = "SUBSTR(email_key, INSTR(email_key, '@') + 1)"
    if not isinstance(db, peewee.SqliteDatabase):
        domain = "SPLIT_PART(email_key, '@', 2)"
    db.execute_sql(f'CREATE INDEX "client_email_domain" ON "client" ({domain}, "id")')
