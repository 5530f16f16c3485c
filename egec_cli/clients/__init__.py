"""Client records: fields, creation, changes, search, lists, selection and history.

May import: credentials, audit, context, mail, store and below.
"""
