"""Statistics: what the database holds now and what happened in a period, for people, scripts and monitoring.

May import: reissue, clients, credentials, audit, context, store, output and the small modules.
"""
