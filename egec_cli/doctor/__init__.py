"""Check an installation: settings, database, mail and machine; look after the database.

May import: all other subjects, context, mail, store and below.
"""
