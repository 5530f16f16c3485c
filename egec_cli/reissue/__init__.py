"""Runs: issue credentials to many clients under a name, with workers, threads, items and a rate limit.

May import: imports, logins, clients, credentials, audit, context, mail, store and below.
"""
