"""A client at a web page: a browser that opens pages, types, clicks and presses keys."""

import base64
import time
from typing import Any

from tests.mail.browser import Browser

# Long enough for a busy machine; a page that needs it has failed.
PATIENCE = 60.0
_HEIGHT = 900  # CSS pixels


class Visitor:
    """Someone with a browser.

    Args:
        browser: shows the pages.
        width: of the screen, in CSS pixels.
    """

    def __init__(self, browser: Browser, width: int = 1280) -> None:
        self._browser = browser
        self.resize(width)

    def resize(self, width: int) -> None:
        """Change the screen to this width."""
        self._browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=_HEIGHT, deviceScaleFactor=1, mobile=width < 600
        )

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        return self._browser.value(expression)

    def open(self, url: str) -> None:
        """Open a page."""
        self.value("window.isOld = true")
        self._browser.call("Page.navigate", url=url)
        self._wait_for_page()

    def reload(self) -> None:
        """Load the page again, as with F5."""
        self.value("window.isOld = true")
        self._browser.call("Page.reload")
        self._wait_for_page()

    def forbid_scripts(self) -> None:
        """Let pages run no JavaScript."""
        self._browser.call("Emulation.setScriptExecutionDisabled", value=True)

    def show(self, html: str) -> None:
        """Show a page of another site."""
        self.open("about:blank")
        frame = self._browser.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        self._browser.call("Page.setDocumentContent", frameId=frame, html=html)

    def click(self, selector: str, *, leads_elsewhere: bool = False) -> None:
        """Click what a CSS selector finds; wait for the next page if it leads to one."""
        self.value(f"(window.isOld = true, document.querySelector({selector!r}).scrollIntoView())")
        x, y = self.value(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        for event in ("mousePressed", "mouseReleased"):
            self._browser.call("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)
        if leads_elsewhere:
            self._wait_for_page()

    def type(self, text: str) -> None:
        """Type, or paste, a text where the cursor is."""
        self._browser.call("Input.insertText", text=text)

    def press(self, key: str, code: int, *, leads_elsewhere: bool = False) -> None:
        """Press a key, such as Tab (9) or Enter (13)."""
        self.value("window.isOld = true")
        text = {"text": "\r"} if key == "Enter" else {}
        for event in ("keyDown", "keyUp"):
            self._browser.call(
                "Input.dispatchKeyEvent", type=event, key=key, code=key, windowsVirtualKeyCode=code, **text
            )
        if leads_elsewhere:
            self._wait_for_page()

    def fill(self, **fields: str) -> None:
        """Click each field, by its id with `_` for a hyphen, and type a text."""
        for name, text in fields.items():
            self.click(f"#{name.replace('_', '-')}")
            self.type(text)

    def named(self, role: str) -> list[str]:
        """Return the names of the elements of a role, as a screen reader says them."""
        nodes = self._browser.call("Accessibility.getFullAXTree")["nodes"]
        return [
            node.get("name", {}).get("value", "")
            for node in nodes
            if not node["ignored"] and node.get("role", {}).get("value") == role
        ]

    def photograph(self) -> bytes:
        """Return the screen as PNG."""
        return base64.b64decode(self._browser.call("Page.captureScreenshot")["data"])

    def _wait_for_page(self) -> None:
        deadline = time.monotonic() + PATIENCE
        # Between two pages there may be no page to ask.
        while not self._is_new_page():
            assert time.monotonic() < deadline, self.value("document.documentElement.outerHTML")
            time.sleep(0.05)

    def _is_new_page(self) -> bool:
        try:
            return bool(self.value("window.isOld === undefined && document.readyState === 'complete'"))
        except AssertionError:
            return False
