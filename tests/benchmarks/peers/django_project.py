"""Make a Django project, with its database, in which `manage.py reissue` gives every user a new password.

    python django_project.py FOLDER TEMPLATES

The project is the one that Django creates, with its default users and SQLite, and its default settings except those
below. MAIL_PORT and BCRYPT_COST in its environment set the port of the mail server and the cost of a hash.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SETTINGS = """
import os

DEBUG = False
INSTALLED_APPS.append("portal")
PASSWORD_HASHERS = ["portal.hashers.Hasher"]
DEFAULT_FROM_EMAIL = "eGEC <ne-pas-repondre@egec.pro>"
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ["MAIL_PORT"])
"""


def main() -> None:
    """Make the project."""
    folder, templates = (Path(argument) for argument in sys.argv[1:])
    subprocess.run([sys.executable, "-m", "django", "startproject", "portal", "."], cwd=folder, check=True)
    portal = folder / "portal"
    with (portal / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    commands = portal / "management" / "commands"
    commands.mkdir(parents=True)
    (commands.parent / "__init__.py").touch()
    (commands / "__init__.py").touch()
    shutil.copy(HERE / "django_command.py", commands / "reissue.py")
    shutil.copy(HERE / "django_hasher.py", portal / "hashers.py")
    (portal / "templates").mkdir()
    for kind in ("txt", "html"):
        source = (templates / f"credentials.fr.{kind}").read_text(encoding="utf-8")
        body = source.partition("\n\n")[2] if kind == "txt" else source  # the subject comes first
        (portal / "templates" / f"credentials.{kind}").write_text(re.sub(r"\$(\w+)", r"{{ \1 }}", body), "utf-8")
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=folder, check=True)


if __name__ == "__main__":
    main()
