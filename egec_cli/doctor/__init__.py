"""Check an installation: settings, database, mail and machine; send test mails; maintain the database.

May import: all other subjects, context, mail, store and below.
"""
