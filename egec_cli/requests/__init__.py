"""Activation requests from a portal: read one, limit them, answer the client in words.

May import: logins, clients, credentials, audit, networks, mail, context, store and below; not reissue.
"""
