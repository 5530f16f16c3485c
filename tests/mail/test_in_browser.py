"""The mails in a real browser: on a phone, in dark mode, in large type, on paper, and copied."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from random import Random

import pytest

from egec_cli import password
from egec_cli.mail.compose.message import SAMPLE
from egec_cli.mail.compose.sample import extract_html, sample_mail
from egec_cli.mail.compose.template import KINDS_OF_A_RUN, Kind
from egec_cli.password import Alphabet
from egec_cli.settings import load
from egec_cli.settings.types import LANGUAGES
from tests.mail.browser import Browser, Place, running_browser

# All tests share one browser, on one worker.
pytestmark = pytest.mark.xdist_group("browser")

TELEPHONE, PANE, DESK = 320, 600, 1280  # widths in CSS pixels
KINDS = list(itertools.product(Kind, LANGUAGES))
WITH_PASSWORD = [(kind, language) for kind, language in KINDS if kind in KINDS_OF_A_RUN]
LONG_NAME = "É" * 50
SHOWN_PASSWORD = SAMPLE[1].reveal()
LARGE_TYPE = "--blink-settings=defaultFontSize=32"  # twice the usual size


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser with the default type size."""
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def large_type() -> Iterator[Browser]:
    """Start a browser with twice the default type size."""
    with running_browser(LARGE_TYPE) as running:
        yield running


def page(kind: Kind, language: str, name: str = "Mme Dupont") -> str:
    return extract_html(sample_mail(load.load_settings({}), kind, language, at=datetime.now(UTC), name=name))


def as_roundcube_shows(html: str) -> str:
    """Return a page without style sheets, as `rcube_washtml` of Roundcube 1.6 may leave it."""
    body = re.search(r"<body style=\"([^\"]*)\">(.*)</body>", html, flags=re.DOTALL)
    assert body is not None
    washed = re.sub(r' (?:role|translate)="[^"]*"', "", body[2]).replace('class="', 'class="v1')
    return f'<!DOCTYPE html><div class="rcmBody" id="message-htmlpart1" style="{body[1]}">{washed}</div>'


def middle_of_key(browser: Browser, index: int, part: float) -> Place:
    box = browser.value(
        f"(() => {{ const box = document.querySelectorAll('code')[{index}].getBoundingClientRect();"
        " return [box.x, box.y, box.width, box.height]; })()"
    )
    return Place(box[0] + box[2] * part, box[1] + box[3] / 2)


@pytest.mark.parametrize(("kind", "language"), KINDS)
@pytest.mark.parametrize("width", [TELEPHONE, PANE, DESK])
def test_no_page_is_wider_than_its_screen(browser: Browser, kind: Kind, language: str, width: int) -> None:
    for html in (page(kind, language, LONG_NAME), as_roundcube_shows(page(kind, language, LONG_NAME))):
        browser.show(html, width)
        assert browser.value("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("kind", "language"), WITH_PASSWORD)
def test_identifier_and_password_stay_whole_on_a_phone_in_double_type_size(
    large_type: Browser, kind: Kind, language: str
) -> None:
    large_type.show(page(kind, language, LONG_NAME), TELEPHONE)
    assert large_type.value("getComputedStyle(document.querySelector('p')).fontSize") == "34px"
    assert large_type.value("document.documentElement.scrollWidth") == TELEPHONE
    assert large_type.value("[...document.querySelectorAll('code')].map(key => key.getClientRects().length)") == [1, 1]


@pytest.mark.parametrize("is_washed", [False, True], ids=["whole", "as Roundcube shows it"])
def test_a_double_click_anywhere_selects_the_identifier_or_the_password_and_nothing_else(
    browser: Browser, is_washed: bool
) -> None:
    random = Random(7)
    for number in range(60):
        kind, language = WITH_PASSWORD[number % len(WITH_PASSWORD)]
        clear = password.generate_password(Alphabet.create(), random.choice).reveal()
        html = page(kind, language).replace(SHOWN_PASSWORD, escape(clear))
        browser.show(as_roundcube_shows(html) if is_washed else html, random.choice([TELEPHONE, PANE]))
        for index, key in enumerate((SAMPLE[0], clear)):
            assert browser.selected_by_double_click(middle_of_key(browser, index, random.uniform(0.05, 0.95))) == key


@pytest.mark.parametrize(("kind", "language"), KINDS)
def test_a_page_is_dark_for_a_reader_who_prefers_that_and_else_light(
    browser: Browser, kind: Kind, language: str
) -> None:
    # Canvas is the background of the browser in the page's colour scheme.
    colours = """(() => {
        const ground = document.querySelector("p").appendChild(document.createElement("span"));
        ground.style.background = "Canvas";
        const style = getComputedStyle(ground);
        return [style.color, style.backgroundColor];
    })()"""
    browser.show(page(kind, language), PANE, "dark")
    assert browser.value(colours) == ["rgb(255, 255, 255)", "rgb(18, 18, 18)"]
    browser.show(page(kind, language), PANE)
    assert browser.value(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


@pytest.mark.parametrize(("kind", "language"), KINDS)
def test_a_page_is_printed_on_one_sheet(browser: Browser, kind: Kind, language: str) -> None:
    browser.show(page(kind, language), DESK)
    assert len(re.findall(rb"/Type\s*/Page\b", browser.printed())) == 1


@pytest.mark.parametrize(("kind", "language"), KINDS)
def test_a_screen_reader_gets_the_language_and_finds_the_parts(browser: Browser, kind: Kind, language: str) -> None:
    browser.show(page(kind, language), PANE)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node.get("ignored")]
    assert browser.value("document.documentElement.lang") == language
    assert "article" in roles
    assert "table" not in roles
    if kind in KINDS_OF_A_RUN:
        assert {"heading", "list", "listitem", "code"} <= set(roles)
