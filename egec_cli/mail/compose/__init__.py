"""Compose mails from the templates and sign them.

May import: settings, output and the small modules.
"""
