"""Chromium without a screen, by the DevTools protocol over a pipe: what a page looks like, and how it is used."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any, NamedTuple

from tests.programs import require_program

# Where Chromium reads commands and writes answers.
_COMMANDS, _ANSWERS = 3, 4
# Above any that this process has, so that neither of the above is overwritten before it was copied.
_ASIDE = 200
_FLAGS = (
    "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--remote-debugging-pipe",
)  # fmt: skip
_HEIGHT = 900  # CSS pixels
_PATIENCE = 30.0  # seconds


class Place(NamedTuple):
    """A place on a page, in CSS pixels."""

    x: float
    y: float


class Browser:
    """One page of a browser."""

    def __init__(self, commands: FileIO, answers: FileIO) -> None:
        self._commands = commands
        self._answers = answers
        self._heard = b""
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def call(self, method: str, **parameters: object) -> Any:
        """Have the browser do something, and return what it answers."""
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": parameters, **self._session}
        self._commands.write(json.dumps(asked).encode() + b"\0")
        while True:
            answer = self._next_message()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next_message(self) -> Any:
        while b"\0" not in self._heard:
            piece = self._answers.read(1 << 16)
            assert piece, "the browser has ended"
            self._heard += piece
        message, _, self._heard = self._heard.partition(b"\0")
        return json.loads(message)

    def show(self, html: str, width: int, scheme: str = "light") -> None:
        """Show a page on a screen of this width, to a reader who prefers this colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=_HEIGHT, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        frame = self.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        self.call("Page.setDocumentContent", frameId=frame, html=html)

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def selected_by_double_click(self, at: Place) -> str:
        """Return what is selected after a double click at a place."""
        for count in (1, 2):
            for event in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=event, x=at.x, y=at.y, button="left", clickCount=count)
        return str(self.value("getSelection().toString()"))

    def printed(self) -> bytes:
        """Return the page on paper, as PDF."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])


@contextmanager
def running_browser(*flags: str) -> Iterator[Browser]:
    """Run a browser until the end of the `with` block; skip the test without one."""
    program = require_program("chromium", "chromium")
    command_end, to_browser = os.pipe()
    from_browser, answer_end = os.pipe()

    def take_pipes() -> None:
        for end, number in ((command_end, _COMMANDS), (answer_end, _ANSWERS)):
            os.dup2(end, number + _ASIDE)
        for number in (_COMMANDS, _ANSWERS):
            os.dup2(number + _ASIDE, number)

    profile = tempfile.mkdtemp(prefix="egec-browser-")
    # Chromium's own sandbox does not let root in.
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [program, *_FLAGS, *as_root, f"--user-data-dir={profile}", *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=take_pipes,
    )
    os.close(command_end)
    os.close(answer_end)
    try:
        with FileIO(to_browser, "w") as commands, FileIO(from_browser) as answers:
            browser = Browser(commands, answers)
            yield browser
            browser.call("Browser.close")
            # Its processes write to its profile until all have ended.
            process.wait(_PATIENCE)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(profile, ignore_errors=True)
