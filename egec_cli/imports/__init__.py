"""Import client records from CSV files: read the table, check its rows, merge them.

May import: clients, credentials, audit, context, store and below; not logins.
"""
