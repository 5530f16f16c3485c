"""What the tests with real programs share."""

from pathlib import Path

import pytest

from tests.callers.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return an installation of egec for this test alone."""
    return Site.made_in(tmp_path)
