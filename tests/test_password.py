"""Generated passwords: form, entropy, uniformity, and no display of the clear text."""

import copy
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import factorial, log2, prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.errors import InvalidInput
from egec_cli.password import (
    DEFAULT_SPECIALS,
    LENGTH,
    LOOKALIKES,
    MINIMUM_BITS,
    Alphabet,
    Password,
    choose_random,
    generate_password,
)

CLEAR = "fG69a*6jH"
alphabets = st.builds(
    lambda specials, lookalikes: Alphabet.create("".join(specials), lookalikes=lookalikes),
    st.permutations(DEFAULT_SPECIALS + "$&@_").map(lambda all_specials: all_specials[:7]),
    st.booleans(),
)


# --- form ---


@given(alphabets, st.integers())
def test_every_password_has_nine_characters_of_its_alphabet_and_each_class(alphabet: Alphabet, seed: int) -> None:
    clear = generate_password(alphabet, random.Random(seed).choice).reveal()
    assert len(clear) == LENGTH == 9
    assert set(clear) <= set(alphabet.characters)
    assert all(set(clear) & set(letters) for letters in alphabet.classes)


def test_a_candidate_without_a_class_is_discarded() -> None:
    candidates = iter("aaaaaaaaa" "Bcdefghj2" "Bcdefgh2#")  # fmt: skip
    assert generate_password(Alphabet.create(), lambda _: next(candidates)).reveal() == "Bcdefgh2#"


def test_look_alikes_are_excluded_by_default() -> None:
    assert not set(Alphabet.create().characters) & LOOKALIKES
    assert (
        set(Alphabet.create(lookalikes=True).characters) - set(Alphabet.create().characters)
        == LOOKALIKES
        == set("0O1lI")
    )


@pytest.mark.parametrize(
    "specials", ["é#%+", "# %+", "#\n%+", "a#%+", "0#%+", "€#%+", "\u200b#%+", "##%+", "#%+\ud800"], ids=ascii
)
def test_specials_that_are_not_punctuation_or_come_twice_are_refused(specials: str) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be a special character|given twice") as refused:
        Alphabet.create(specials)
    assert DEFAULT_SPECIALS in refused.value.hint


def test_passwords_do_not_come_from_a_seeded_source() -> None:
    def seeded() -> str:
        random.seed(1)
        return generate_password(Alphabet.create()).reveal()

    assert len({seeded() for _ in range(100)}) == 100
    assert {choose_random("ab") for _ in range(200)} == {"a", "b"}


@pytest.mark.parametrize("number", [1, 2, 3, 9, 64, 70, 129, 255, 256])
def test_each_character_is_chosen_by_equally_many_of_the_256_bytes(number: int) -> None:
    characters = "".join(map(chr, range(number)))
    for_each = 256 // number
    every_byte = (bytes([byte]) for byte in range(256))
    chosen = Counter(choose_random(characters, lambda _: next(every_byte)) for _ in range(number * for_each))
    assert chosen == dict.fromkeys(characters, for_each)
    # The bytes that remain would make some characters likelier, so none of them chooses one.
    with pytest.raises(StopIteration):
        choose_random(characters, lambda _: next(every_byte))


# --- entropy ---


def words(alphabet: Alphabet, length: int, seen: frozenset[int] = frozenset()) -> int:
    """Count the words with every class, given the classes seen before, by walking from character to character."""
    ways = Counter({seen: 1})
    for _ in range(length):
        longer: Counter[frozenset[int]] = Counter()
        for classes, number in ways.items():
            for kind, letters in enumerate(alphabet.classes):
                longer[classes | {kind}] += number * len(letters)
        ways = longer
    return ways[frozenset(range(4))]


@given(alphabets)
def test_the_entropy_is_that_of_all_words_with_every_class(alphabet: Alphabet) -> None:
    assert alphabet.entropy_bits == pytest.approx(log2(words(alphabet, LENGTH)), abs=1e-9)


def test_the_default_alphabet_has_53_bits() -> None:
    assert f"{Alphabet.create().entropy_bits:.1f}" == "53.0"


@given(st.permutations(DEFAULT_SPECIALS), st.integers(0, 8), st.booleans())
def test_an_alphabet_of_less_than_50_bits_is_refused(specials: list[str], size: int, lookalikes: bool) -> None:
    letters = (24 + 2 * lookalikes, 25 + lookalikes, 8 + 2 * lookalikes)
    number = words(Alphabet("A" * letters[0], "a" * letters[1], "2" * letters[2], "#" * size), LENGTH)
    chosen = "".join(specials[:size])
    if number < 2**50:
        with pytest.raises(InvalidInput, match=r"below the required 50"):
            Alphabet.create(chosen, lookalikes=lookalikes)
    else:
        assert Alphabet.create(chosen, lookalikes=lookalikes).entropy_bits >= MINIMUM_BITS == 50


def test_one_special_is_too_few_and_two_are_enough() -> None:
    with pytest.raises(InvalidInput, match=r"49\.4 bits"):
        Alphabet.create("#")
    assert Alphabet.create("#%").entropy_bits > 50


# --- evenness ---


def deviates(observed: Counter[Any], probabilities: Mapping[Any, float]) -> bool:
    """Tell whether Pearson's statistic is one that a true model exceeds once in a million times.

    Cells that expect less than 5 are put together. The quantile is Wilson and Hilferty's (1931).
    """
    number = observed.total()
    assert set(observed) <= set(probabilities)
    assert sum(probabilities.values()) == pytest.approx(1)
    cells = [(observed[key], number * p) for key, p in probabilities.items() if number * p >= 5]
    rest = number - sum(seen for seen, _ in cells), number - sum(expected for _, expected in cells)
    if rest[1] >= 5:
        cells.append(rest)
    statistic: float = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    spread = 2 / (9 * (len(cells) - 1))
    limit: float = (len(cells) - 1) * (1 - spread + 4.753 * spread**0.5) ** 3
    return statistic > limit


def deviations(alphabet: Alphabet, passwords: Iterable[str]) -> set[str]:
    """Return by which statistics the passwords are not those that a uniform generator makes."""
    samples = list(passwords)
    kind_of = {character: kind for kind, letters in enumerate(alphabet.classes) for character in letters}
    sizes = [len(letters) for letters in alphabet.classes]
    total = words(alphabet, LENGTH)
    of_kind = {k: sizes[k] * words(alphabet, LENGTH - 1, frozenset({k})) / total for k in range(4)}
    of_character = {character: of_kind[kind] / sizes[kind] for character, kind in kind_of.items()}
    counts = [(a, b, c, LENGTH - a - b - c) for a in range(1, 7) for b in range(1, 8 - a) for c in range(1, 9 - a - b)]
    of_counts = {
        count: factorial(LENGTH) * prod(map(pow, sizes, count)) / prod(map(factorial, count)) / total
        for count in counts
    }
    by_position = list(zip(*samples, strict=True))
    kinds = [[kind_of[character] for character in sample] for sample in samples]
    found = {
        "class by position": any(deviates(Counter(column), of_kind) for column in zip(*kinds, strict=True)),
        "character by position": any(deviates(Counter(column), of_character) for column in by_position),
        "classes together": deviates(Counter(tuple(map(row.count, range(4))) for row in kinds), of_counts),
    }
    return {statistic for statistic, deviating in found.items() if deviating}


def one_of_each_then_shuffled(alphabet: Alphabet, source: random.Random) -> str:
    """Make a password as many generators do: it looks even and is not."""
    characters = [source.choice(letters) for letters in alphabet.classes]
    characters += [source.choice(alphabet.characters) for _ in range(LENGTH - len(characters))]
    source.shuffle(characters)
    return "".join(characters)


def one_character_short(alphabet: Alphabet, source: random.Random) -> str:
    """Make a password that can never have the last special."""
    shorter = alphabet.characters[:-1]
    return generate_password(alphabet, lambda _: source.choice(shorter)).reveal()


SAMPLES = 60_000


def drawn(make: Callable[[Alphabet, random.Random], str]) -> set[str]:
    alphabet, source = Alphabet.create(), random.Random(20260724)
    return deviations(alphabet, (make(alphabet, source) for _ in range(SAMPLES)))


def test_generated_passwords_are_uniform_over_all_that_have_every_class() -> None:
    assert drawn(lambda alphabet, source: generate_password(alphabet, source.choice).reveal()) == set()


def test_one_of_each_then_shuffled_is_found_to_be_biased_by_every_statistic() -> None:
    assert drawn(one_of_each_then_shuffled) == {"class by position", "character by position", "classes together"}


def test_a_missing_character_is_found() -> None:
    assert "character by position" in drawn(one_character_short)


# --- secrecy ---


@pytest.mark.parametrize("shown", [repr, str, format, "{!r:>40}".format, "%s".__mod__, lambda p: repr([{"p": (p,)}])])
def test_a_password_does_not_show_itself(shown: Callable[[Password], str]) -> None:
    assert "*********" in shown(Password(CLEAR))
    assert CLEAR not in shown(Password(CLEAR))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_password_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="must not be pickled"):
        pickle.dumps(Password(CLEAR), protocol)


def test_a_password_cannot_be_copied_by_pickling() -> None:
    with pytest.raises(TypeError, match="must not be pickled"):
        copy.deepcopy(Password(CLEAR))


def test_reveal_returns_the_clear_text() -> None:
    assert Password(CLEAR).reveal() == CLEAR
