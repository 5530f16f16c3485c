"""Password hashes: what they match, unusual input, and their time."""

from collections.abc import Callable
from time import process_time

import bcrypt
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli import hashing
from egec_cli.hashing import Hashing
from egec_cli.password import Password
from egec_cli.settings import load

CLEAR = "fG69a*6jH"
HASH = bcrypt.hashpw(CLEAR.encode(), b"$2b$04$abcdefghijklmnopqrstuu").decode()
without_deadline = hypothesis.settings(deadline=None)


def ascii_id(text: str) -> str:
    return ascii(text[:20])


def seconds(act: Callable[[], object]) -> float:
    """Return the shortest of several processor times, which other programs affect least."""
    times = []
    for _ in range(5):
        started = process_time()
        act()
        times.append(process_time() - started)
    return min(times)


def test_a_hash_is_bcrypt_with_its_cost_and_differs_each_time() -> None:
    first, second = (hashing.hash_password(Password(CLEAR), 4) for _ in range(2))
    assert first != second
    assert first[:7] == second[:7] == "$2b$04$"
    assert bcrypt.checkpw(CLEAR.encode(), first.encode())


def test_the_password_matches_its_hash_and_case_counts() -> None:
    assert hashing.matches_hash(CLEAR, HASH)
    assert not hashing.matches_hash(CLEAR.lower(), HASH)


@pytest.mark.parametrize(
    "typed",
    [
        "", CLEAR[:-1], CLEAR + " ", CLEAR + "\x00", f"{CLEAR}\x00{CLEAR}", "\x00", "\udc80", "\ud800" + CLEAR,
        "é" * 40, "x" * 10**6,
    ],
    ids=ascii_id,
)  # fmt: skip
def test_no_other_text_matches_nor_raises(typed: str) -> None:
    assert not hashing.matches_hash(typed, HASH)


@pytest.mark.parametrize(
    ("clear", "typed"), [("", "x" * 73), ("", "\x00"), ("?", "\udc80"), ("\ufffd", "\udc80")], ids=ascii
)
def test_text_that_bcrypt_cannot_hash_matches_no_other(clear: str, typed: str) -> None:
    assert not hashing.matches_hash(typed, hashing.hash_password(Password(clear), 4))


@without_deadline
@given(st.text(st.characters()))
def test_text_of_any_kind_is_only_refused(typed: str) -> None:
    assert hashing.matches_hash(typed, HASH) is (typed == CLEAR)


def test_72_bytes_count_to_the_last_and_longer_text_never_matches() -> None:
    longest = "é" * 36
    of_longest = hashing.hash_password(Password(longest), 4)
    assert hashing.matches_hash(longest, of_longest)
    assert not hashing.matches_hash(longest[:-1] + "e", of_longest)
    assert not hashing.matches_hash(longest + "x", of_longest)


@pytest.mark.parametrize(
    "stored",
    [
        "", "!", CLEAR, "$2b$", "$2b$04$", "$2b$04$short",
        HASH[:-1], HASH + "a", HASH + "\x00", HASH[:28] + "~" + HASH[29:],
        "$2b$03$" + HASH[7:], "$2b$99$" + HASH[7:], "$2b$-4$" + HASH[7:], "$2z$04$" + HASH[7:], "$6$salt$digest",
        "$2b$04$" + "é" * 53, "\ud800" * 60, "\x00" * 60, "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",
    ],
    ids=ascii_id,
)  # fmt: skip
def test_a_malformed_hash_matches_nothing(stored: str) -> None:
    assert hashing.matches_hash(CLEAR, stored) is False
    assert hashing.matches_hash("x" * 100, stored) is False


@without_deadline
@given(st.text(st.characters()), st.integers(7, 60))
def test_a_damaged_hash_never_raises(damage: str, place: int) -> None:
    damaged = HASH[:place] + damage + HASH[place:]
    assert hashing.matches_hash(CLEAR, damaged) is (damaged == HASH)


@pytest.mark.parametrize("prefix", ["$2a$", "$2y$"])
def test_hashes_of_other_programs_match_too(prefix: str) -> None:
    assert hashing.matches_hash(CLEAR, prefix + HASH[4:])


def test_a_dummy_check_takes_as_long_as_a_real_one() -> None:
    real = hashing.hash_password(Password(CLEAR), 10)
    ratio = seconds(lambda: hashing.check_dummy(10)) / seconds(lambda: hashing.matches_hash("wrong", real))
    assert 0.25 < ratio < 4


@pytest.mark.parametrize("typed", ["x" * 73, "\x00", "\ud800"], ids=ascii_id)
def test_refusing_text_that_bcrypt_cannot_hash_takes_the_usual_time(typed: str) -> None:
    real = hashing.hash_password(Password(CLEAR), 8)
    ratio = seconds(lambda: hashing.matches_hash(typed, real)) / seconds(lambda: hashing.matches_hash("wrong", real))
    assert 0.25 < ratio < 4


def test_a_hash_made_on_a_thread_matches_its_password() -> None:
    under_way = Hashing(Password(CLEAR), 4)
    assert hashing.matches_hash(CLEAR, under_way.result())
    assert under_way.result() == under_way.result()


def test_an_error_of_bcrypt_on_the_thread_is_raised_by_result() -> None:
    failing = Hashing(Password(CLEAR), 3)
    with pytest.raises(ValueError, match="Invalid rounds"):
        failing.result()


def test_start_hash_uses_the_settings_and_a_new_password() -> None:
    found = load.load_settings({"EGEC_BCRYPT_COST": "5", "EGEC_PASSWORD_SPECIALS": "$&"})
    first, second = hashing.start_hash(found), hashing.start_hash(found)
    assert set(first.password.reveal()) & set("$&")
    assert hashing.matches_hash(first.password.reveal(), first.result())
    assert first.result().startswith("$2b$05$")
    assert first.password.reveal() != second.password.reveal()
