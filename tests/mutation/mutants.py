"""The mutants of a module: each is one small change of its text that a test should notice."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

_COMPARISONS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
    "is": ("is not",),
    "is not": ("is",),
    "in": ("not in",),
    "not in": ("in",),
}
_COMPARISON = re.compile(r"is\s+not\b|not\s+in\b|\bis\b|\bin\b|[<>=!]=|[<>]")
_ARITHMETIC = {
    "+": "-",
    "-": "+",
    "*": "//",
    "/": "*",
    "//": "*",
    "%": "*",
    "**": "*",
    "<<": ">>",
    ">>": "<<",
    "^": "&",
}
_CONDITIONS = {"&": "|", "|": "&"}
_OPERATOR = re.compile(r"\*\*|//|<<|>>|[-+*/%&|^]")
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_METHODS = {"in_": "not_in", "not_in": "in_"}
# Calls without which an expression still makes sense.
_LINKS = frozenset(
    {"where", "having", "order_by", "group_by", "limit", "offset", "distinct", "for_update", "desc"}
    | {"strip", "lower", "upper", "casefold", "resolve"}
)
_DECORATORS_THAT_STAY = frozenset({"property", "classmethod", "staticmethod", "overload", "override", "abstractmethod"})
# They return what is shown to people.
_FUNCTIONS_OF_WORDS = frozenset({"__repr__", "__str__"})
_CALLS_WITH_WORDS = frozenset({"Words", "Option", "Argument"})
_SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|WHERE|BEGIN|PRAGMA|SET LOCAL)\b")
_IN_SQL = (
    (re.compile(r"\bAND\b"), "OR"),
    (re.compile(r"\bOR\b(?! REPLACE)"), "AND"),
    (re.compile(r"\bIS NOT NULL\b"), "IS NULL"),
    (re.compile(r"\bIS NULL\b"), "IS NOT NULL"),
    (re.compile(r"\bNOT IN\b"), "IN"),
    (re.compile(r"(?<!NOT )\bIN\b(?= \()"), "NOT IN"),
    (re.compile(r"<="), "<"),
    (re.compile(r">="), ">"),
    (re.compile(r"(?<= )<(?= )"), "<="),
    (re.compile(r"(?<= )>(?= )"), ">="),
    (re.compile(r"(?<=\w )=(?= )"), "<>"),
    (re.compile(r"\bSKIP LOCKED\b"), ""),
    (re.compile(r"\bFOR UPDATE\b"), ""),
    (re.compile(r"\b(EXCLUSIVE|IMMEDIATE)\b"), "DEFERRED"),
    (re.compile(r"\bDESC\b"), "ASC"),
)
# Beyond this a number is the size of something, and one more or less makes no difference.
_LARGE = 1000


class Mutant(NamedTuple):
    """A change of one place of a module.

    Attributes:
        path: of the module, within the package.
        function: the qualified name of the function or class in which it is; empty for the module itself.
        kind: what is done.
        line: the number of the first line that it changes.
        before: the lines that it changes, with single blanks for white space.
        after: what becomes of them.
        number: counts those of a module that are alike in all this.
        start: where the text that is replaced begins, in bytes.
        end: where it ends.
        text: what takes its place.
    """

    path: str
    function: str
    kind: str
    line: int
    before: str
    after: str
    number: int
    start: int
    end: int
    text: str

    @property
    def key(self) -> str:
        """What identifies it wherever its module and its lines may move."""
        return sha256("\0".join((self.function, self.before, self.after, str(self.number))).encode()).hexdigest()

    def applied(self, source: bytes) -> bytes:
        """Return the text of the module with this change."""
        return source[: self.start] + self.text.encode() + source[self.end :]


_Placed = ast.expr | ast.stmt | ast.keyword


class _Change(NamedTuple):
    kind: str
    start: int
    end: int
    text: str


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """Return the mutants of a module, in the order of its text.

    Args:
        path: of the module, within the package.
        source: its text.
    """
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    alike: Counter[tuple[str, str, str]] = Counter()
    found = []
    for function, change in sorted(set(finder.found), key=lambda one: (one[1].start, one[1].end, one[1].text)):
        first = source.rfind(b"\n", 0, change.start) + 1
        last = (source.find(b"\n", change.end) + 1 or len(source) + 1) - 1
        before = _in_one_line(source[first:last])
        after = _in_one_line(source[first : change.start] + change.text.encode() + source[change.end : last])
        if before != after:
            number = alike[function, before, after]
            alike[function, before, after] += 1
            line = source.count(b"\n", 0, change.start) + 1
            found.append(Mutant(path, function, change.kind, line, before, after, number, *change[1:]))
    return found


def _in_one_line(text: bytes) -> str:
    return " ".join(text.decode().split())


class _Finder(ast.NodeVisitor):
    """Walks through a module and notes what can be changed."""

    def __init__(self, source: bytes) -> None:
        self.found: list[tuple[str, _Change]] = []
        self._source = source
        self._lines = [0, *(match.end() for match in re.finditer(rb"\n", source))]
        self._within: list[str] = []
        self._for_loops = 0

    # --- places ---

    def _start(self, node: _Placed) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def _end(self, node: _Placed) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: _Placed) -> str:
        return self._source[self._start(node) : self._end(node)].decode()

    def _note(self, kind: str, start: int, end: int, text: str) -> None:
        self.found.append((".".join(self._within), _Change(kind, start, end, text)))

    def _replace(self, kind: str, node: _Placed, *texts: str) -> None:
        for text in texts:
            self._note(kind, self._start(node), self._end(node), text)

    def _between(self, left: _Placed, right: _Placed, pattern: re.Pattern[str]) -> tuple[int, int, str]:
        """Return where the operator between two operands is, and the operator."""
        start = self._end(left)
        gap = self._source[start : self._start(right)].decode()
        # What a comment says is blanked out; only its length counts.
        match = pattern.search(re.sub(r"#.*", lambda found: "_" * len(found[0].encode()), gap))
        assert match is not None, gap
        return start + match.start(), start + match.end(), " ".join(match[0].split())

    # --- scopes ---

    def _visit_all(self, nodes: Sequence[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._decorators(node)
        if node.name in _FUNCTIONS_OF_WORDS:
            return
        self._within.append(node.name)
        self._visit_all([*node.args.defaults, *node.args.kw_defaults, *node.body])
        self._within.pop()

    visit_FunctionDef = _visit_function
    visit_AsyncFunctionDef = _visit_function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._decorators(node)
        self._within.append(node.name)
        self._visit_all(node.body)
        self._within.pop()

    def _decorators(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            if _name(decorator.func if isinstance(decorator, ast.Call) else decorator) not in _DECORATORS_THAT_STAY:
                at = self._source.rfind(b"@", 0, self._start(decorator))
                self._note("decorator removed", at, self._end(decorator), "")
            self.visit(decorator)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all([*node.args.defaults, *node.args.kw_defaults, node.body])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._attribute_set(node, [node.target])
        self._visit_all([node.target, node.value])

    # --- statements ---

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if isinstance(node.value, ast.Call):
            self._replace("call removed", node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._attribute_set(node, node.targets)
        self.generic_visit(node)

    def _attribute_set(self, node: ast.Assign | ast.AnnAssign, targets: Sequence[ast.expr]) -> None:
        if node.value is not None and all(isinstance(one, ast.Attribute | ast.Subscript) for one in targets):
            self._replace("assignment removed", node, "pass")

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace("assignment removed", node, "pass")
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._replace("deletion removed", node, "pass")

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace("raise removed", node, "pass")
        if not isinstance(node.exc, ast.Call):
            self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave it alone: it says what the type checker cannot see."""

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant) and not _is_message(node.value):
            self._replace("returned value", node.value, "None")
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._for_loops += 1
        self.generic_visit(node)
        self._for_loops -= 1

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace("continue removed", node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        # Without it, most loops with `while` would only run into the time limit.
        if self._for_loops:
            self._replace("break removed", node, "pass")

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if item.optional_vars is None:
                self._replace("context removed", item.context_expr, '__import__("contextlib").nullcontext()')
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self._replace("handler removed", node.type, "()")
        self._visit_all(node.body)

    # --- conditions ---

    def _forced(self, node: ast.If | ast.While | ast.IfExp) -> None:
        if _name(node.test) == "TYPE_CHECKING":
            return
        if not isinstance(node.test, ast.Constant):
            # A loop without end would only run into the time limit.
            self._replace("condition", node.test, *(("False",) if isinstance(node, ast.While) else ("True", "False")))
        self.generic_visit(node)

    visit_If = _forced
    visit_While = _forced
    visit_IfExp = _forced

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._replace("condition", condition, "True")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in pairwise((node.left, *node.comparators)):
            start, end, operator = self._between(left, right, _COMPARISON)
            for other in _COMPARISONS[operator]:
                self._note("comparison", start, end, other)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            start, end, _ = self._between(left, right, re.compile(rf"\b{word}\b"))
            self._note("and, or", start, end, other)
        for left_out in node.values:
            rest = [f"({self._text(one)})" for one in node.values if one is not left_out]
            joined = f" {word} ".join(rest)
            self._replace("operand removed", node, f"({joined})" if len(rest) > 1 else joined)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        start, end, operator = self._between(node.left, node.right, _OPERATOR)
        if operator in _CONDITIONS and (self._within or operator == "&"):
            self._note("&, |", start, end, _CONDITIONS[operator])
            # Of a chain, each operand is the right one of some operator, except for the first.
            is_first = not (isinstance(node.left, ast.BinOp) and type(node.left.op) is type(node.op))
            kept = (node.left, node.right) if is_first else (node.left,)
            self._replace("operand removed", node, *(f"({self._text(one)})" for one in kept))
        elif operator in _ARITHMETIC and not _is_text(node.left) and not _is_text(node.right):
            self._note("arithmetic", start, end, _ARITHMETIC[operator])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if not isinstance(node.op, ast.UAdd):
            kind = "arithmetic" if isinstance(node.op, ast.USub) else "negation removed"
            self._replace(kind, node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    # --- values ---

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace("constant", node, str(not node.value))
        elif isinstance(node.value, int):
            is_mode = self._text(node).startswith("0o")
            others = (1,) if node.value > _LARGE and not is_mode else (node.value + 1, node.value - 1)
            self._replace("constant", node, *(f"({one})" if one < 0 else str(one) for one in others))
        elif isinstance(node.value, float) and node.value:
            self._replace("constant", node, "0.0")
        elif isinstance(node.value, str):
            self._sql(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        # Before Python 3.12, what is within it has no places.
        self._sql(node)

    def _sql(self, node: ast.expr) -> None:
        text = self._text(node)
        if not _SQL.search(text):
            return
        for pattern, other in _IN_SQL:
            for match in pattern.finditer(text):
                if match[0] != "=" or "WHERE" in text[: match.start()]:
                    before, within = text[: match.start()].encode(), match[0].encode()
                    start = self._start(node) + len(before)
                    self._note("SQL", start, start + len(within), other)

    def _collection(self, node: ast.Tuple | ast.List | ast.Set) -> None:
        if len(node.elts) > 1 and all(isinstance(one, ast.Attribute) for one in node.elts):
            for one in node.elts:
                self._replace("member removed", one, "*()")
        self.generic_visit(node)

    visit_Tuple = _collection
    visit_List = _collection
    visit_Set = _collection

    def visit_Call(self, node: ast.Call) -> None:
        if _is_message(node):
            return
        name = _name(node.func)
        if isinstance(node.func, ast.Name) and name in _FUNCTIONS:
            self._replace("function", node.func, _FUNCTIONS[name])
        if isinstance(node.func, ast.Attribute):
            if name in _METHODS:
                end = self._end(node.func)
                self._note("method", end - len(name), end, _METHODS[name])
            if name == "is_null" and not node.args:
                self._note("method", self._end(node) - 1, self._end(node) - 1, "False")
            if name in _LINKS:
                self._replace("call removed", node, f"({self._text(node.func.value)})")
        for keyword in node.keywords:
            if keyword.arg is not None:
                self._replace("argument removed", keyword, "**{}")
        self.generic_visit(node)


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _is_message(node: ast.AST) -> bool:
    """Tell whether people read this: a text with a blank that is not SQL, or a call with one."""
    if isinstance(node, ast.Call):
        return _name(node.func) in _CALLS_WITH_WORDS or bool(node.args and _is_message(node.args[0]))
    parts: Iterator[ast.AST] = iter(node.values if isinstance(node, ast.JoinedStr) else [node])
    text = "".join(one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str))
    return " " in text.strip() and not _SQL.search(text)
