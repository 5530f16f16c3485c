"""Issue credentials: the protocol, its states, leases and bounces.

May import: audit, context, mail, store and below.
"""
