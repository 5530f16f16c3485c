"""Secure connections to PostgreSQL: verified TLS and no readable password, unless the URL says otherwise.

The functions only compute: from the options that libpq finds in the URL, and the environment that it reads others from.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping

from egec_cli.errors import ConfigError
from egec_cli.settings.types import SettingsWarning
from egec_cli.translation import Words

# The first version of libpq that has require_auth and sslrootcert=system, as PQlibVersion returns it.
_FIRST_WITH_REQUIRE_AUTH = 160000
# Where distributions keep the certificates that they trust. The OpenSSL of psycopg's binary package looks elsewhere.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_OCTET = r"(25[0-5]|2[0-4]\d|1?\d?\d)"
_LOOPBACK = rf"localhost|::1|127(\.{_OCTET}){{3}}"
# With these, libpq would read other options from an unchecked file, or write the TLS keys to a file.
_REFUSED = {
    "service": Words("Write the host, the user and the database into EGEC_DATABASE_URL."),
    "servicefile": Words("Write the host, the user and the database into EGEC_DATABASE_URL."),
    "sslkeylogfile": Words("Remove it from EGEC_DATABASE_URL."),
}
_SAFE_METHODS = {"scram-sha-256", "gss", "sspi", "none"}
_READABLE_METHODS = {"password", "md5"}


def leaves_this_machine(asked: Mapping[str, str], environ: Mapping[str, str]) -> bool:
    """Tell whether any host that libpq may connect to is neither a loopback address nor a Unix socket."""
    hosts = (asked.get("host") or environ.get("PGHOST", "")).split(",")
    addresses = (asked.get("hostaddr") or environ.get("PGHOSTADDR", "")).split(",")
    # An empty address stands for that of a host; which host does not matter.
    places = [address for address in addresses if address] + (hosts if "" in addresses else [])
    return not all(_is_local(place) for place in places)


def _is_local(place: str) -> bool:
    # An empty name, / and @ stand for a Unix socket.
    return place[:1] in {"", "/", "@"} or re.fullmatch(_LOOPBACK, place.lower(), re.ASCII) is not None


def require_safe(asked: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Refuse options that make libpq load code or read other options from a file.

    Raises:
        ConfigError: the URL or the environment has such an option.
    """
    if ":" in (asked.get("sslkey") or environ.get("PGSSLKEY", "")):
        raise ConfigError(
            "sslkey names an engine of OpenSSL, which could run any code",
            "Let sslkey in EGEC_DATABASE_URL (or PGSSLKEY) be the path of a file, without a colon.",
        )
    for option, hint in _REFUSED.items():
        if asked.get(option):
            raise ConfigError("EGEC_DATABASE_URL has the option {option}=, which is refused", hint, option=option)
    if environ.get("PGSERVICE"):
        raise ConfigError(
            "PGSERVICE is set, whose file could name another server and other options",
            "Unset PGSERVICE, and write the host, the user and the database into EGEC_DATABASE_URL.",
        )


def secured(
    asked: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    libpq: int,
    is_file: Callable[[str], bool] = os.path.isfile,
) -> dict[str, str]:
    """Return the options to add to those that the URL asks for.

    For other machines, the default is TLS with a verified certificate and host name, and SCRAM, which reveals the
    password to no server. Only the URL can change that: variables such as PGSSLMODE cannot.

    Raises:
        ConfigError: this libpq is too old to protect the password from a false server.
    """
    if not leaves_this_machine(asked, environ):
        return {}
    options: dict[str, str] = {}
    mode = asked.get("sslmode") or "verify-full"
    if not asked.get("sslmode"):
        options["sslmode"] = mode
    if mode == "verify-full":
        if not asked.get("gssencmode"):
            options["gssencmode"] = "disable"
        if not asked.get("sslrootcert") and (authorities := _authorities(environ, libpq, is_file)):
            options["sslrootcert"] = authorities
    if not asked.get("require_auth"):
        if libpq >= _FIRST_WITH_REQUIRE_AUTH:
            options["require_auth"] = "scram-sha-256"
        elif not asked.get("sslmode"):
            raise ConfigError(
                "this libpq (version {version}) cannot keep the password from a server that asks for it in clear text",
                "Type: pip install 'psycopg[binary]>=3.2,<4', or write ?sslmode=verify-full into EGEC_DATABASE_URL.",
                version=libpq // 10000,
            )
    return options


def _authorities(environ: Mapping[str, str], libpq: int, is_file: Callable[[str], bool]) -> str:
    """Return the value of sslrootcert; empty if libpq finds the user's own file."""
    if environ.get("PGSSLROOTCERT") or is_file(os.path.expanduser("~/.postgresql/root.crt")):
        return ""
    for path in (environ.get("SSL_CERT_FILE", ""), *_BUNDLES):
        if path and is_file(path):
            return path
    if libpq >= _FIRST_WITH_REQUIRE_AUTH:
        return "system"
    raise ConfigError(
        "this system has no file of trusted certificates",
        "Name one: add ?sslrootcert=FILE to EGEC_DATABASE_URL.",
    )


def weaknesses(asked: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[SettingsWarning]:
    """Yield each default of security that the URL weakens for a connection to another machine."""
    if not leaves_this_machine(asked, environ):
        return
    mode = asked.get("sslmode", "")
    if mode not in {"", "verify-full"}:
        yield SettingsWarning(
            Words("EGEC_DATABASE_URL has sslmode={mode}: another server can pose as the database", mode=mode),
            Words("Write sslmode=verify-full, or leave sslmode out."),
        )
    methods = set(filter(None, asked.get("require_auth", "").split(",")))
    excluded = {method.removeprefix("!") for method in methods if method.startswith("!")}
    if methods and (not excluded >= _READABLE_METHODS if excluded else not methods <= _SAFE_METHODS):
        yield SettingsWarning(
            Words(
                "EGEC_DATABASE_URL has require_auth={methods}: a server can ask for the password in a readable form",
                methods=",".join(sorted(methods)),
            ),
            Words("Write require_auth=scram-sha-256, or leave require_auth out."),
        )
