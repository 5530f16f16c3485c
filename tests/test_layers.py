"""The floors of the house: every import points down or sideways, none up, and no two modules need each other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import egec_cli

PACKAGE = Path(egec_cli.__file__).parent
NAME = PACKAGE.name

FLOORS = {"__main__": 4, "main": 4, "commands": 4, "show": 3, "accounts": 2, "mail": 1, "store": 1}
ALLOWED = {4: {4, 3, 2, 1, 0}, 3: {1, 0}, 2: {2, 1, 0}, 1: {1, 0}, 0: {0}}
# Who may import a library, or a part of one, that is not for everybody.
FOREIGN = {"rich": {f"{NAME}.show"}, "click": set[str](), "typer._click": set[str]()}


def modules(package: Path) -> dict[str, ast.Module]:
    """Return the parsed modules of the package by their full names."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(module: str, is_package: bool, tree: ast.Module) -> Iterator[str]:
    """Yield the full names that a module imports, wherever in it, also those of modules that it names in a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
            base = ".".join([*(above if node.level else []), *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(rf"{NAME}(\.\w+)*\.?", str(node.value)):
            yield str(node.value).rstrip(".")


def is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def part(module: str) -> str:
    """Return the folder or top-level module that a module of the house belongs to."""
    return f"{module}.".split(".")[1]


def may_import(module: str, other: str) -> bool:
    here, there = part(module), part(other)
    floor, floor_below = FLOORS.get(here, 0), FLOORS.get(there, 0)
    if there in {"main", "__main__"}:
        return (here, there) == ("__main__", "main")
    return floor_below in ALLOWED[floor] and (floor != 1 or floor_below != 1 or here == there)


def imports(package: Path) -> dict[str, set[str]]:
    """Return what each module of the package imports."""
    trees = modules(package)
    return {
        module: set(imported(module, any(is_within(other, module) and other != module for other in trees), tree))
        for module, tree in trees.items()
    }


def arrows(package: Path) -> dict[str, set[str]]:
    """Return which modules of the package each of its modules imports."""
    by_module = imports(package)
    return {
        module: {max((m for m in by_module if is_within(name, m)), key=len) for name in names if is_within(name, NAME)}
        - {module}
        for module, names in by_module.items()
    }


def forbidden(package: Path) -> list[str]:
    """Return the imports of a package that are not allowed."""
    inner = [(here, there) for here, others in arrows(package).items() for there in others]
    outer = [
        (module, library)
        for module, names in imports(package).items()
        for library, importers in FOREIGN.items()
        if module not in importers and any(is_within(name, library) for name in names)
    ]
    return sorted(f"{a} imports {b}" for a, b in [*(pair for pair in inner if not may_import(*pair)), *outer])


def circles(package: Path) -> list[list[str]]:
    """Return the groups of modules that need each other."""
    graph = arrows(package)

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    reach = {module: reached(module) for module in graph}
    groups = {frozenset(m for m in reach[module] if module in reach[m]) for module in graph if module in reach[module]}
    return sorted(sorted(group) for group in groups)


def test_every_import_of_the_house_is_allowed() -> None:
    assert forbidden(PACKAGE) == []


def test_no_two_modules_of_the_house_need_each_other() -> None:
    assert circles(PACKAGE) == []


def test_the_table_names_parts_and_importers_that_exist() -> None:
    found = set(modules(PACKAGE))
    assert FLOORS.keys() <= {part(module) for module in found}
    assert set().union(*FOREIGN.values()) <= found


def test_the_checker_sees_the_whole_house_and_the_imports_within_functions() -> None:
    assert {FLOORS.get(part(module), 0) for module in modules(PACKAGE)} == {0, 1, 2, 3, 4}
    assert f"{NAME}.commands.root" in arrows(PACKAGE)[f"{NAME}.main"]


HEALTHY = {
    "__init__.py": "",
    "__main__.py": "from egec_cli.main import run",
    "main.py": "def run():\n    from egec_cli.commands import root",
    "commands/__init__.py": "",
    "commands/root.py": "import_module(f'egec_cli.commands.{name}')",
    "commands/client.py": "from egec_cli.commands import root\nfrom egec_cli import show\nfrom ..accounts import login",
    "show.py": "def show():\n    import rich.table\nfrom egec_cli import clock",
    "accounts/__init__.py": "",
    "accounts/login.py": "from egec_cli.mail import smtp\nfrom egec_cli.store.models import Client\nimport typer",
    "mail/__init__.py": "",
    "mail/smtp.py": "from . import message",
    "mail/message.py": "import egec_cli.clock",
    "store/__init__.py": "",
    "store/models.py": "from egec_cli import __version__",
    "clock.py": "",
}


def house(folder: Path, **changed: str) -> Path:
    for name, text in (HEALTHY | changed).items():
        path = folder / NAME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / NAME


def test_the_checker_finds_nothing_in_a_healthy_house(tmp_path: Path) -> None:
    healthy = house(tmp_path)
    assert (forbidden(healthy), circles(healthy)) == ([], [])
    assert arrows(healthy)[f"{NAME}.mail.smtp"] == {f"{NAME}.mail.message"}


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("clock.py", "from egec_cli.accounts import login", "clock imports egec_cli.accounts.login"),
        ("clock.py", "from egec_cli.mail.smtp import Smtp", "clock imports egec_cli.mail.smtp"),
        ("accounts/login.py", "import egec_cli.commands.root", "accounts.login imports egec_cli.commands.root"),
        ("accounts/login.py", "from ..commands import root", "accounts.login imports egec_cli.commands.root"),
        ("accounts/__init__.py", "from ..show import show", "accounts imports egec_cli.show"),
        ("accounts/login.py", "import_module('egec_cli.commands')", "accounts.login imports egec_cli.commands"),
        ("mail/smtp.py", "def f():\n    from egec_cli.store import models", "mail.smtp imports egec_cli.store.models"),
        ("store/models.py", "class C:\n    from ..mail import smtp", "store.models imports egec_cli.mail.smtp"),
        ("show.py", "from egec_cli.accounts.login import check", "show imports egec_cli.accounts.login"),
        ("commands/client.py", "from egec_cli.main import run", "commands.client imports egec_cli.main"),
        ("main.py", "if True:\n    import egec_cli.__main__", "main imports egec_cli.__main__"),
        ("commands/client.py", "from rich.table import Table", "commands.client imports rich"),
        ("commands/client.py", "import click.testing", "commands.client imports click"),
        ("commands/client.py", "from typer import _click", "commands.client imports typer._click"),
        ("main.py", "def f():\n    from typer._click.core import Context", "main imports typer._click"),
    ],
)
def test_the_checker_finds_an_import_that_points_up(tmp_path: Path, file: str, text: str, fault: str) -> None:
    assert f"{NAME}.{fault}" in forbidden(house(tmp_path, **{file: text}))


def test_the_checker_finds_a_circle_on_one_floor(tmp_path: Path) -> None:
    circular = house(tmp_path, **{"mail/message.py": "def f():\n    from egec_cli.mail import smtp"})
    assert forbidden(circular) == []
    assert circles(circular) == [["egec_cli.mail.message", "egec_cli.mail.smtp"]]
