"""Client records: create, change, find, list, select, and show their history.

May import: credentials, audit, context, mail, store and below.
"""
