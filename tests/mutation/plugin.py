"""A plugin of pytest, with two uses.

    --learn FILE    runs the tests that need no PostgreSQL server, and writes, as JSON by test: how long it took, and
                    the functions and lines that it ran.
    --order FILE    runs the tests in the order of FILE, with its time limits; `FILE.last` gets the one that began last.

Tests are named without the folder in which pytest runs. What a process runs that a test starts is not seen.
"""

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import egec_cli

_PACKAGE = f"{Path(egec_cli.__file__).parent}/"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    parser.addoption("--learn", type=Path)
    parser.addoption("--order", type=Path)


def pytest_configure(config: pytest.Config) -> None:
    """Take up the use that was asked for."""
    if file := config.getoption("--learn"):
        config.pluginmanager.register(_Learner(file))
    if file := config.getoption("--order"):
        config.pluginmanager.register(_Order(file))


class _Learner:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._learned: dict[str, dict[str, Any]] = {}
        self._functions: dict[str, set[str]] = {}
        self._lines: dict[str, set[int]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out tests on PostgreSQL: most are on SQLite too, and run the same lines there."""
        items[:] = [one for one in items if "postgresql" not in one.nodeid and "postgresql" not in one.fixturenames]  # type: ignore[attr-defined]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._functions, self._lines = defaultdict(set), defaultdict(set)
        began = time.monotonic()
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self._learned[item.nodeid] = {
                "seconds": round(time.monotonic() - began, 3),
                "functions": {path: sorted(names) for path, names in self._functions.items()},
                "lines": {path: sorted(lines) for path, lines in self._lines.items()},
            }

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE):
            return None
        path = file.removeprefix(_PACKAGE)
        parts = frame.f_code.co_qualname.split(".")
        self._functions[path].add(".".join(part for part in parts if not part.startswith("<")))
        add = self._lines[path].add

        def run(frame: FrameType, _event: str, _argument: object) -> Any:
            add(frame.f_lineno)
            return run

        return run

    def pytest_sessionfinish(self) -> None:
        self._file.write_text(json.dumps(self._learned))


class _Order:
    def __init__(self, file: Path) -> None:
        self._limits: dict[str, float] = json.loads(file.read_text())
        self._last = file.with_name(f"{file.name}.last")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        places = {name: place for place, name in enumerate(self._limits)}
        items.sort(key=lambda item: places.get(item.nodeid, len(places)))
        for item in items:
            if (limit := self._limits.get(item.nodeid)) is not None:
                item.add_marker(pytest.mark.timeout(limit), append=False)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._last.write_text(nodeid)
