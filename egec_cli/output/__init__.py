"""What operators see: formats, tables, messages and progress; only `terminal`, `cards` and `pager` import rich.

May import: settings and the small modules.
"""
