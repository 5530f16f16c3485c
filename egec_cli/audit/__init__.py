"""The audit log: record, list and prune events.

May import: context, store, output and the small modules; no other subject.
"""
