"""The layers of the package: imports point down, subjects keep their order, mail and store never meet."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import egec_cli
from tests.manual.blocks import executed_by

PACKAGE = Path(egec_cli.__file__).parent
NAME = PACKAGE.name

# Each part may import those of lower layers. Parts of one layer never import each other, except the small modules.
SMALL = 2
LAYERS = {
    "translation": 0,
    "errors": 1,
    "settings": 3,
    "output": 4,
    "mail": 5,
    "store": 5,
    "context": 6,
    "audit": 7,
    "networks": 7,
    "credentials": 8,
    "clients": 9,
    "imports": 10,
    "logins": 10,
    "requests": 11,
    "reissue": 11,
    "doctor": 12,
    "stats": 12,
    "api": 13,
    "commands": 13,
    "main": 14,
    "__main__": 15,
}
# The modules that may import a restricted library.
FOREIGN = {
    "rich": {f"{NAME}.output.{module}" for module in ("cards", "pager", "screen", "terminal")},
    "click": set[str](),
    "typer._click": set[str](),
}


def modules(package: Path) -> dict[str, ast.Module]:
    """Return the parsed modules of the package by their full names."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(module: str, is_package: bool, tree: ast.Module) -> Iterator[str]:
    """Yield the full names of all imports in a module, including modules that it names in a text."""
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
    """Return the folder or top-level module that a module belongs to."""
    return f"{module}.".split(".")[1]


def may_import(module: str, other: str) -> bool:
    here, there = part(module), part(other)
    layer, layer_below = layer_of(here), layer_of(there)
    return here == there or layer_below < layer or (layer, layer_below) == (SMALL, SMALL)


def layer_of(name: str) -> int:
    # The package itself holds the version only.
    return LAYERS.get(name, SMALL if name else -1)


def imports(package: Path) -> dict[str, set[str]]:
    """Return the imports of each module of the package."""
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
    """Return the groups of modules that import each other."""
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


def test_every_import_is_allowed() -> None:
    assert forbidden(PACKAGE) == []


def test_no_two_modules_import_each_other() -> None:
    assert circles(PACKAGE) == []


def test_the_table_names_parts_and_importers_that_exist() -> None:
    found = set(modules(PACKAGE))
    assert LAYERS.keys() <= {part(module) for module in found}
    assert set().union(*FOREIGN.values()) <= found


def test_the_checker_sees_all_layers_and_the_imports_within_functions() -> None:
    assert {layer_of(part(module)) for module in modules(PACKAGE)} == {-1, *range(16)}
    assert f"{NAME}.commands.root" in arrows(PACKAGE)[f"{NAME}.main"]


def test_the_guide_shows_the_layers_from_top_to_bottom() -> None:
    [block] = executed_by("tests/test_layers.py")
    # Their descriptions begin in column 20.
    shown = [set(line[:20].split()) for line in block.text.splitlines()]
    known = {**LAYERS, "small": SMALL, "modules": SMALL}
    layers = sorted(set(known.values()) - {LAYERS["__main__"]}, reverse=True)
    assert shown == [{name for name, its_layer in known.items() if its_layer == layer} for layer in layers]


def test_no_package_but_commands_has_more_than_fifteen_modules() -> None:
    members = Counter(path.parent for path in PACKAGE.rglob("*.py"))
    assert [path for path, number in members.items() if number > 15 and path.name != "commands"] == []


def test_no_module_has_more_than_500_lines() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert len(lines) > 100
    assert {path: number for path, number in lines.items() if number > 500} == {}


def test_every_package_states_its_purpose_and_its_imports() -> None:
    packages = [path.parent for path in PACKAGE.rglob("__init__.py") if path.parent.name not in {NAME, "migrations"}]
    docstrings = {path: ast.get_docstring(ast.parse((path / "__init__.py").read_text())) or "" for path in packages}
    assert [path for path, text in docstrings.items() if "\nMay import: " not in text] == []


def test_no_file_name_repeats_the_name_of_its_folder() -> None:
    inner = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE]
    assert [
        path for path in inner if path.stem.startswith((path.parent.name, path.parent.name.removesuffix("s")))
    ] == []


HEALTHY = {
    "__init__.py": "",
    "__main__.py": "from egec_cli.main import run",
    "main.py": "def run():\n    from egec_cli.commands import root",
    "commands/__init__.py": "",
    "commands/root.py": "import_module(f'egec_cli.commands.{name}')",
    "commands/client.py": "from egec_cli.commands import root\nfrom egec_cli.output import terminal",
    "commands/verify.py": "from ..logins import verify",
    "output/__init__.py": "",
    "output/terminal.py": "def show_table():\n    import rich.table\nfrom egec_cli import clock",
    "logins/__init__.py": "",
    "logins/verify.py": "from egec_cli.credentials import issue\nimport typer",
    "imports/__init__.py": "",
    "imports/rows.py": "from egec_cli.credentials import issue",
    "credentials/__init__.py": "",
    "credentials/issue.py": "from egec_cli.mail import smtp\nfrom egec_cli.store.models import Client",
    "mail/__init__.py": "",
    "mail/smtp.py": "from . import message",
    "mail/message.py": "import egec_cli.clock",
    "store/__init__.py": "",
    "store/models.py": "from egec_cli import __version__",
    "clock.py": "from egec_cli import identifier",
    "identifier.py": "",
}


def house(folder: Path, **changed: str) -> Path:
    for name, text in (HEALTHY | changed).items():
        path = folder / NAME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / NAME


def test_the_checker_accepts_valid_imports(tmp_path: Path) -> None:
    healthy = house(tmp_path)
    assert (forbidden(healthy), circles(healthy)) == ([], [])
    assert arrows(healthy)[f"{NAME}.mail.smtp"] == {f"{NAME}.mail.message"}


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("clock.py", "from egec_cli.logins import verify", "clock imports egec_cli.logins.verify"),
        ("clock.py", "from egec_cli.mail.smtp import Smtp", "clock imports egec_cli.mail.smtp"),
        ("logins/verify.py", "import egec_cli.commands.root", "logins.verify imports egec_cli.commands.root"),
        ("logins/verify.py", "from ..commands import root", "logins.verify imports egec_cli.commands.root"),
        ("logins/verify.py", "from ..imports import rows", "logins.verify imports egec_cli.imports.rows"),
        ("imports/rows.py", "from ..logins import verify", "imports.rows imports egec_cli.logins.verify"),
        ("credentials/issue.py", "from ..logins import verify", "credentials.issue imports egec_cli.logins.verify"),
        ("logins/__init__.py", "from ..commands.root import app", "logins imports egec_cli.commands.root"),
        ("logins/verify.py", "import_module('egec_cli.commands')", "logins.verify imports egec_cli.commands"),
        ("mail/smtp.py", "def f():\n    from egec_cli.store import models", "mail.smtp imports egec_cli.store.models"),
        ("store/models.py", "class C:\n    from ..mail import smtp", "store.models imports egec_cli.mail.smtp"),
        ("output/terminal.py", "from egec_cli.logins import verify", "output.terminal imports egec_cli.logins.verify"),
        ("commands/client.py", "from egec_cli.main import run", "commands.client imports egec_cli.main"),
        ("main.py", "if True:\n    import egec_cli.__main__", "main imports egec_cli.__main__"),
        ("commands/client.py", "from rich.table import Table", "commands.client imports rich"),
        ("commands/client.py", "import click.testing", "commands.client imports click"),
        ("commands/client.py", "from typer import _click", "commands.client imports typer._click"),
        ("main.py", "def f():\n    from typer._click.core import Context", "main imports typer._click"),
    ],
)
def test_the_checker_finds_a_forbidden_import(tmp_path: Path, file: str, text: str, fault: str) -> None:
    assert f"{NAME}.{fault}" in forbidden(house(tmp_path, **{file: text}))


def test_the_checker_finds_a_cycle_within_a_layer(tmp_path: Path) -> None:
    circular = house(tmp_path, **{"mail/message.py": "def f():\n    from egec_cli.mail import smtp"})
    assert forbidden(circular) == []
    assert circles(circular) == [["egec_cli.mail.message", "egec_cli.mail.smtp"]]
