"""The mutation tests themselves: what is mutated, that every listed equivalent is one, that nothing is left changed."""

import ast
from collections import Counter

import pytest

from tests.mutation.__main__ import chosen
from tests.mutation.breaks import load_breaks
from tests.mutation.learned import Known, Learned, in_order, with_postgresql
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.results import Equivalent, Results, equivalents
from tests.mutation.targets import PACKAGE, ROOT, TARGETS, TESTS
from tests.mutation.trial import Outcome, Trial, copies


def after(text: str) -> set[str]:
    """Return what the mutants of this text make of the lines that they change."""
    return {one.after for one in mutants_of("module.py", text.encode())}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = a < b", {"x = a <= b", "x = a >= b"}),
        ("x = a not  in b", {"x = a in b"}),
        ("x = a and b", {"x = a or b", "x = (a)", "x = (b)"}),
        ("x = (a) & (b)", {"x = (a) | (b)", "x = (a)", "x = (b)"}),
        ("x = a & b & c", {"x = a | b & c", "x = a & b | c", "x = (a) & c", "x = (b) & c", "x = (a & b)"}),
        ("x = ~a", {"x = (a)"}),
        ("x = not a", {"x = (a)"}),
        ("x = a - b", {"x = a + b"}),
        ("x = 5", {"x = 6", "x = 4"}),
        ("x = 2_000_000", {"x = 1"}),
        ("x = 0o600", {"x = 385", "x = 383"}),
        ("x = 2.5", {"x = 0.0"}),
        ("x = True", {"x = False"}),
        ("x = y if a else z", {"x = y if True else z", "x = y if False else z"}),
        ("x = (S.A, S.B)", {"x = (*(), S.B)", "x = (S.A, *())"}),
        ("x = min(a)", {"x = max(a)"}),
        ("x = f.in_(a)", {"x = f.not_in(a)"}),
        ("x = f.is_null()", {"x = f.is_null(False)"}),
        ("x = q.where(a)", {"x = (q)"}),
        ("x = [a for a in b if c]", {"x = [a for a in b if True]"}),
        ("f(a=b)", {"pass", "f(**{})"}),
        ("a.b = c", {"pass"}),
        ("del a", {"pass"}),
        ("raise Error('no such thing', 1)", {"pass"}),
        ("with a: pass", {'with __import__("contextlib").nullcontext(): pass'}),
        ("@cache\ndef f(): ...", {""}),
        ("def f(): return a", {"def f(): return None"}),
        ("try: ...\nexcept E: ...", {"except (): ..."}),
        ("for a in b:\n break", {"pass"}),
        (
            "x = 'SELECT a WHERE b = 1 AND c'",
            {"x = 'SELECT a WHERE b <> 1 AND c'", "x = 'SELECT a WHERE b = 1 OR c'"},
        ),
        ("x = f'DELETE FROM {t} WHERE é IS NULL'", {"x = f'DELETE FROM {t} WHERE é IS NOT NULL'"}),
        ("é = (a  # and\n     and b)", {"or b)", "é = ((a))", "é = ((b))"}),
    ],
)
def test_conditions_values_and_statements_are_mutated(text: str, expected: set[str]) -> None:
    assert after(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '"""Return 1 AND 2."""',
        "def f(a: int | None) -> 'A | B': 'Return 1.'",
        "x: Literal[1]",
        "A = B | C",
        "assert a == 1",
        "x = Words('up to {n} times', n=1)",
        "x = refused('not more than {most}', most=1)",
        "x = 'a message ' + b",
        "if TYPE_CHECKING: import a",
        "class C:\n @property\n def __repr__(self): return f(1)",
    ],
)
def test_words_annotations_and_assertions_are_left_alone(text: str) -> None:
    assert after(text) == set()


def test_a_mutant_is_the_same_wherever_its_lines_and_its_module_move() -> None:
    text = b"def f(a):\n    g(1)\n    g(1)\n"
    here = mutants_of("here.py", text)
    there = mutants_of("folder/there.py", b"import a\n\n\n" + text)
    assert [one.key for one in here] == [one.key for one in there]
    assert len({one.key for one in here}) == len(here)


def test_every_module_and_every_test_of_the_table_is_there() -> None:
    assert [path for path in TARGETS if not (PACKAGE / path).is_file()] == []
    assert [test for tests in TARGETS.values() for test in tests if not (TESTS / test).is_file()] == []


def test_a_mutant_of_each_module_can_be_compiled_and_differs() -> None:
    for mutant in chosen([], 100, seed=1):
        source = (PACKAGE / mutant.path).read_bytes()
        assert ast.dump(ast.parse(mutant.applied(source))) != ast.dump(ast.parse(source)), mutant


def test_a_sample_is_drawn_by_its_seed() -> None:
    sample = chosen(["password"], 10, seed=1)
    assert len(sample) == 10
    assert sample == chosen(["password"], 10, seed=1)
    assert sample != chosen(["password"], 10, seed=2)


def test_every_listed_equivalent_is_a_mutant_and_has_a_reason() -> None:
    mutants = chosen([], None, seed=1)
    assert [one for one in equivalents() if not one.reason or not any(map(one.is_of, mutants))] == []


def test_an_equivalent_is_found_by_its_function_and_its_lines() -> None:
    (mutant,) = (one for one in mutants_of("a.py", b"def f():\n  if   a < b: g()") if one.after == "if a <= b: g()")
    assert Equivalent("f", "if a < b: g()", "if a <= b: g()", "why").is_of(mutant)
    assert not Equivalent("g", "if a < b: g()", "if a <= b: g()", "why").is_of(mutant)


def in_identifier(after: str) -> Mutant:
    """Return the mutant of `identifier.py` that makes this of a line."""
    return next(one for one in chosen(["identifier.py"], None, seed=1) if one.after == after)


def test_first_run_the_tests_that_noticed_others_then_the_quickest_that_run_the_line() -> None:
    [mutant] = [one for one in mutants_of("a.py", b"def f():\n  x = 1\n  y = 2.5") if one.line == 3]
    tests = {
        "elsewhere": Known(0.1, {"b.py": ["f"]}, {"b.py": [3]}),
        "killer": Known(9.0, {}, {}),
        "module": Known(0.1, {"a.py": ["g"]}, {"a.py": [9]}),
        "function": Known(0.1, {"a.py": ["f"]}, {"a.py": [2]}),
        "line, slow": Known(3.0, {"a.py": ["f"]}, {"a.py": [2, 3]}),
        "line, quick": Known(2.0, {"a.py": ["f"]}, {"a.py": [2, 3]}),
        "line[sqlite]": Known(1.0, {"a.py": ["f"]}, {"a.py": [2, 3]}),
    }
    assert in_order(mutant, with_postgresql(tests), ["killer"]) == [
        "killer",
        "line[sqlite]",
        "line, quick",
        "line, slow",
        "line[postgresql]",
        "function",
        "module",
        "elsewhere",
    ]


def test_a_mutant_is_killed_in_a_copy_and_the_program_stays_as_it_is(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    mutant = in_identifier("return _FORM.fullmatch(text) is None")
    before = (PACKAGE / mutant.path).read_bytes()
    with copies(1) as (copy,):
        learned = Learned(tmp_path_factory.mktemp("learned"))
        learned.add("test_identifier.py", copy.learn("test_identifier.py"))
        tests = learned.of("test_identifier.py")
        assert tests is not None
        order = in_order(mutant, tests, [])
        trials = [copy.try_with(mutant, dict.fromkeys(names, 0.1)) for names in (order, reversed(order))]
    assert tests[order[0]].distance(mutant) == 0 < tests[order[-1]].distance(mutant)
    assert {trial.outcome for trial in trials} == {Outcome.KILLED}
    assert {tests[trial.by].distance(mutant) for trial in trials} == {0}
    # Several tests notice it, and the order decides which.
    assert trials[0].by != trials[1].by
    assert (PACKAGE / mutant.path).read_bytes() == before


@pytest.mark.parametrize("outcome", [Outcome.KILLED, Outcome.TIMED_OUT, Outcome.SURVIVED])
@pytest.mark.parametrize("changed", ["module", "tests"])
def test_a_result_is_kept_until_the_module_or_the_tests_that_decided_change(
    tmp_path_factory: pytest.TempPathFactory, outcome: Outcome, changed: str
) -> None:
    folder = tmp_path_factory.mktemp("results")
    mutant, other = chosen(["identifier.py"], 2, seed=1)
    by = "" if outcome is Outcome.SURVIVED else "tests/test_identifier.py::test_generated[1]"
    Results(folder, fresh=False).add(mutant, Trial(outcome, by, 3.0))
    kept = Results(folder, fresh=False)
    found = kept.of(mutant)
    assert found is not None
    assert (found["outcome"], found["by"], found["seconds"]) == (outcome, by, 3.0)
    assert kept.of(other) is None
    lines = (folder / "results.jsonl").read_text().replace(found[changed], "0" * 16)
    (folder / "results.jsonl").write_text(lines)
    assert Results(folder, fresh=False).of(mutant) is None
    assert Results(folder, fresh=True).of(mutant) is None


def test_each_promise_is_broken_in_three_ways_that_still_fit_the_source() -> None:
    broken = Counter(one.promise for one in load_breaks())
    for one in load_breaks():
        for module, text in one.apply(lambda module: (PACKAGE / module).read_text()).items():
            compile(text, module, "exec")
        for test in one.tests:
            file, name = test.split("::")
            assert f"def {name}(" in (ROOT / file).read_text()
    assert set(broken) == {"P1", "P2", "P3", "P4", "login limits", "lease", "quota"}
    assert min(broken.values()) >= 3
