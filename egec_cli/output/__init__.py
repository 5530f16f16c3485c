"""What operators see: formats, tables, messages and progress; the only package that imports rich.

May import: settings and the small modules.
"""
