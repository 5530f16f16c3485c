"""The records that scripts read: each class by its name, with its keys, their types and what they mean."""

import inspect
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from egec_cli.commands.contract import CONTRACT
from egec_cli.context import Act
from egec_cli.output.messages import ErrorRecord


class Key(NamedTuple):
    """A key of a record: its type and its meaning in words."""

    name: str
    type: str
    meaning: str


_IN_JSON = {str: "text", int: "integer", float: "number", bool: "boolean", dict: "object"}


def name(kind: type[Any]) -> str:
    """Return what a record is called: the words of its class."""
    return " ".join(re.findall("[A-Z][a-z]+", kind.__name__.replace("Record", ""))).lower()


def all_kinds() -> list[type[Any]]:
    """Return the classes of all records that commands write, those within others behind these; errors and acts last."""
    found: dict[type[Any], None] = {}
    for contract in CONTRACT.values():
        for result in contract.results:
            for part in result.parts:
                found |= dict.fromkeys([part, *_within(part)])
    return [*found, ErrorRecord, Act]


def keys(kind: type[Any]) -> list[Key]:
    """Return the keys of a record.

    Raises:
        LookupError: the docstring of its class does not say what one of them means.
    """
    meanings = dict(_meanings(inspect.getdoc(kind) or ""))
    types = get_type_hints(kind)
    missing = [field for field in kind._fields if field not in meanings]
    if missing:
        raise LookupError(f"{kind.__name__} does not say what these mean: {', '.join(missing)}")
    return [Key(field, type_in_words(types[field]), meanings[field]) for field in kind._fields]


def keys_of_its_own(kind: type[Any]) -> tuple[type[Any] | None, list[Key]]:
    """Return the record whose keys another one starts with, if any, and the remaining keys of the other."""
    own = keys(kind)
    for other in all_kinds():
        start = keys(other)
        if other is not kind and start == own[: len(start)]:
            return other, own[len(start) :]
    return None, own


def type_in_words(hint: Any) -> str:
    """Return a type as JSON has it; of what has few values, these."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        first, *others = [part for part in parts if part is not NoneType]
        assert not others
        return f"{type_in_words(first)} or null"
    if origin is Literal:
        return " ".join(f"`{getattr(value, 'value', value)}`" for value in parts)
    if origin is dict:
        return "object"
    if origin is not None and issubclass(origin, Sequence):
        return f"list of {type_in_words(parts[0])}"
    if issubclass(hint, Enum):
        return " ".join(f"`{one.value}`" for one in hint)
    return f"*{name(hint)}*" if hasattr(hint, "_fields") else _IN_JSON[hint]


def _within(kind: type[Any]) -> Iterator[type[Any]]:
    for hint in get_type_hints(kind).values():
        yield from (part for part in (hint, *get_args(hint)) if hasattr(part, "_fields"))


def _meanings(doc: str) -> Iterator[tuple[str, str]]:
    """Yield the names of the section `Attributes` of a docstring, and what it says of each."""
    section = doc.partition("Attributes:\n")[2]
    for entry in re.split(r"\n(?=    \w)", f"\n{section}")[1:]:
        field, _, meaning = entry.strip().partition(": ")
        yield field, " ".join(meaning.split()).replace("None", "null")
