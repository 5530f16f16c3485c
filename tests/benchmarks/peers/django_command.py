"""A Django management command that re-issues all passwords, as such commands are usually written."""
# mypy: disable-error-code="import-untyped, misc"
# Django carries no types, so its classes are Any.

import secrets
from string import ascii_letters, digits

from django.contrib.auth.models import User
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.management.base import BaseCommand
from django.template.loader import render_to_string
from django.utils import timezone

ALPHABET = ascii_letters + digits + "#%+=?*-!"


class Command(BaseCommand):
    """Give every user a new password and mail it, over one connection."""

    help = "Give every user a new password and mail it."

    def handle(self, **_options: object) -> None:
        """Hash, mail and store, one user after the other."""
        with get_connection() as connection:
            for user in User.objects.filter(is_active=True).iterator():
                password = "".join(secrets.choice(ALPHABET) for _ in range(9))
                user.set_password(password)
                values = {
                    "app_name": "eGEC",
                    "app_url": "www.egec.pro",
                    "greeting": f"Bonjour {user.first_name} {user.last_name},",
                    "identifier": user.username,
                    "password": password,
                    "issued_at": f"{timezone.now():%d/%m/%Y à %H:%M:%S} (UTC)",
                    "expiry": "",
                    "support": "Service IT",
                }
                mail = EmailMultiAlternatives(
                    subject="Votre identifiant et votre mot de passe eGEC",
                    body=render_to_string("credentials.txt", values),
                    to=[user.email],
                    headers={"Auto-Submitted": "auto-generated"},
                    connection=connection,
                )
                mail.attach_alternative(render_to_string("credentials.html", values), "text/html")
                mail.send()
                user.save(update_fields=["password"])
