"""Deliver mails by SMTP, through a sendmail program, or into a Maildir.

May import: mail.compose, settings, output and the small modules.
"""
