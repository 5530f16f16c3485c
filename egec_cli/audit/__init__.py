"""Record what was done, list it and prune it.

May import: context, store, output and the small modules; no other subject.
"""
