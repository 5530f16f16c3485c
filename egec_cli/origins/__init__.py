"""Where requests and logins come from: networks of addresses, their keyed hashes, and limits on their acts.

May import: context, store, settings and the small modules; no subject.
"""
