"""Import client records: read a table (CSV, TSV or JSON Lines), check its rows, merge them.

May import: clients, credentials, audit, context, store and below; not logins.
"""
