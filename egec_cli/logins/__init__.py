"""Verify logins: the check itself, its limits, its explanation for the help desk, and batches.

May import: clients, credentials, audit, context, store and below; not imports.
"""
