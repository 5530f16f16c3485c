"""What operators see: formats, tables, messages and progress; only `terminal` imports rich.

May import: settings and the small modules.
"""
