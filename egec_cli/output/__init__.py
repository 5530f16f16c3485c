"""What operators see: formats, tables, messages and progress; only its tables and progress import rich.

May import: settings and the small modules.
"""
