"""Check the templates before a client reads the mails.

May import: mail.compose, settings, output and the small modules.
"""
