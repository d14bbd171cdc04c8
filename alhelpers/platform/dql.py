"""The query language of filters: parsed and checked once into a small tree, then compiled into a predicate.

The semantics are those of document databases: a path that meets an array looks into its elements, ``ne`` holds when
no element equals, comparisons only hold between values of one type. Nothing here evaluates a regular expression, so a
hostile pattern costs at most (pattern length x text length) steps.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .errors import bad_request

MAX_DEPTH = 40
MAX_CONDITIONS = 20_000
MAX_PATTERN = 4096

LOGICAL = ("$and", "$or")
ORDERING = ("$gt", "$gte", "$lt", "$lte")
EQUALITY = ("$eq", "$ne", "$in", "$nin")
KNOWN = (*LOGICAL, *EQUALITY, *ORDERING, "$exists", "$match", "$glob")
# A plain list matches that very list, or one of its values if the document has a single value.
LISTED = "listed"

# Plain values with a `*` are patterns in these fields only.
WILDCARD_FIELDS = frozenset({"dir", "filename", "name", "metadata.system.mimetype"})
# A number that was sent as text: it compares with numbers as well. Ids may be all digits, but are longer.
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?")

Predicate = Callable[[Any], bool]
# Returns whether the values that a path reaches satisfy an operator.
Test = Callable[[list[Any]], bool]


@dataclass(frozen=True)
class All:
    """Every child matches (and an empty list always does)."""

    children: tuple["Node", ...]


@dataclass(frozen=True)
class Some:
    """At least one child matches."""

    children: tuple["Node", ...]


@dataclass(frozen=True)
class Where:
    """One operator on the value at a dotted path; an empty path is the document itself."""

    path: str
    operator: str
    value: Any


Node = All | Some | Where


# ---------------------------------------------------------------------------------------------------- parsing


class _Parser:
    def __init__(self, aliases: Mapping[str, str]) -> None:
        self.aliases = aliases
        self.conditions = 0

    def document(self, query: Any, prefix: str, depth: int) -> Node:
        """Parse a filter document: fields and logical operators, all of which must hold."""
        self.check_depth(depth)
        if not isinstance(query, dict):
            where = f" under {prefix!r}" if prefix else ""
            raise bad_request(
                f"a filter must be an object{where}, got {type(query).__name__}: {_short(query)}"
            )
        children = [self.entry(key, value, prefix, depth) for key, value in query.items()]
        return children[0] if len(children) == 1 else All(tuple(children))

    def entry(self, key: str, value: Any, prefix: str, depth: int) -> Node:
        if key in LOGICAL:
            parts = [self.document(part, prefix, depth + 1) for part in self.parts(key, value)]
            return _combine(key, parts)
        if key.startswith("$"):
            if key in KNOWN:
                raise bad_request(f"operator {key!r} needs a field, as in {{'field': {{{key!r}: ...}}}}")
            raise self.unknown(key, prefix)
        path = f"{prefix}.{key}" if prefix else key
        return self.field(self.aliases.get(path, path), value, depth + 1)

    def field(self, path: str, value: Any, depth: int) -> Node:
        """Parse what a field is compared with: a plain value, operators, or a nested document."""
        self.check_depth(depth)
        if isinstance(value, list) and value:
            self.count(len(value))
            return self.where(path, LISTED, tuple(value))
        if not isinstance(value, dict):
            return self.where(path, "$eq", value)
        operators = [key for key in value if isinstance(key, str) and key.startswith("$")]
        if not operators:
            return self.document(value, path, depth + 1)
        if len(operators) != len(value):
            fields = sorted(set(value) - set(operators))
            raise bad_request(
                f"field {path!r} mixes operators {operators} with fields {fields}: use one or the other"
            )
        children = [self.operator(path, key, value[key], depth) for key in operators]
        return children[0] if len(children) == 1 else All(tuple(children))

    def operator(self, path: str, key: str, value: Any, depth: int) -> Node:
        if key not in KNOWN:
            raise self.unknown(key, path)
        if key in LOGICAL:
            parts = [self.field(path, part, depth + 1) for part in self.parts(key, value)]
            return _combine(key, parts)
        if key in ("$in", "$nin"):
            if not isinstance(value, list):
                raise bad_request(f"operator {key!r} on {path!r} needs a list, got {_short(value)}")
            self.count(len(value))
            return self.where(path, key, tuple(value))
        if key == "$exists" and not isinstance(value, bool):
            raise bad_request(f"operator '$exists' on {path!r} needs true or false, got {_short(value)}")
        if key in ORDERING and (value is None or isinstance(value, dict | list)):
            raise bad_request(f"operator {key!r} on {path!r} needs a number or a string, got {_short(value)}")
        if key == "$glob" and not isinstance(value, str):
            raise bad_request(f"operator '$glob' on {path!r} needs a string with '*', got {_short(value)}")
        if key == "$match":
            if isinstance(value, str):
                return self.where(path, "$glob", value)
            return self.where(path, key, self.match(path, value, depth))
        if key in ORDERING and isinstance(value, str) and _NUMBER.fullmatch(value):
            return Some((self.where(path, key, value), self.where(path, key, float(value))))
        return self.where(path, key, value)

    def match(self, path: str, value: Any, depth: int) -> Node:
        if not isinstance(value, dict) or not value:
            raise bad_request(
                f"operator '$match' on {path!r} needs an object of conditions, got {_short(value)}"
            )
        # Inside $match the conditions are about one element: either its fields, or the element itself.
        inner = _Parser({})
        inner.conditions = self.conditions
        if all(isinstance(key, str) and key.startswith("$") and key not in LOGICAL for key in value):
            return inner.field("", value, depth + 1)
        return inner.document(value, "", depth + 1)

    def where(self, path: str, operator: str, value: Any) -> Where:
        self.count(1)
        for pattern in value if isinstance(value, tuple) else (value,):
            if isinstance(pattern, str) and "*" in pattern and len(pattern) > MAX_PATTERN:
                raise bad_request(
                    f"the pattern on {path!r} has {len(pattern)} characters, at most {MAX_PATTERN} work"
                )
        if path == "dir":
            value = tuple(map(_directory, value)) if isinstance(value, tuple) else _directory(value)
        return Where(path, operator, value)

    def parts(self, key: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise bad_request(f"operator {key!r} needs a list of filters, got {_short(value)}")
        return value

    def count(self, number: int) -> None:
        self.conditions += number
        if self.conditions > MAX_CONDITIONS:
            raise bad_request(
                f"the filter has more than {MAX_CONDITIONS} conditions: split it into several queries"
            )

    def check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise bad_request(f"the filter nests deeper than {MAX_DEPTH} levels")

    def unknown(self, key: str, path: str) -> Exception:
        where = f" on {path!r}" if path else ""
        return bad_request(f"unknown operator {key!r}{where} in filter; known operators: {', '.join(KNOWN)}")


def _directory(value: Any) -> Any:
    """Return a directory as items have it: without a slash at the end."""
    return value.rstrip("/") or "/" if isinstance(value, str) and value.startswith("/") else value


def _combine(key: str, parts: list[Node]) -> Node:
    return All(tuple(parts)) if key == "$and" else Some(tuple(parts))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def parse(query: Any, aliases: Mapping[str, str] | None = None) -> Node:
    """Check a filter and turn it into a tree; None and ``{}`` match everything.

    `aliases` are other names for fields.
    """
    try:
        return _Parser(aliases or {}).document({} if query is None else query, "", 0)
    except RecursionError:
        raise bad_request(f"the filter nests deeper than {MAX_DEPTH} levels") from None


# ------------------------------------------------------------------------------------------------- evaluation


def compile_filter(node: Node) -> Predicate:
    """Turn a tree into a function that returns whether a document matches."""
    if isinstance(node, All | Some):
        children = [compile_filter(child) for child in node.children]
        if isinstance(node, All):
            return lambda document: all(child(document) for child in children)
        return lambda document: any(child(document) for child in children)
    return _compile_where(node)


def _compile_where(node: Where) -> Predicate:
    parts = node.path.split(".") if node.path else []
    test = _TESTS[node.operator](node)
    if not parts:
        return lambda document: test([document])
    if len(parts) == 1:
        # The common case, without the walk: one key of a document that is a mapping.
        name = parts[0]

        def top_level(document: Any) -> bool:
            if type(document) is dict:
                return test([document[name]] if name in document else [])
            return test(values_at(document, parts))

        return top_level
    return lambda document: test(values_at(document, parts))


def values_at(document: Any, parts: list[str]) -> list[Any]:
    """List the values that a path reaches, looking into the elements of arrays on the way."""
    reached: list[Any] = []
    _walk(document, parts, 0, reached)
    return reached


def _walk(value: Any, parts: list[str], at: int, reached: list[Any]) -> None:
    if at == len(parts):
        reached.append(value)
    elif isinstance(value, dict):
        if parts[at] in value:
            _walk(value[parts[at]], parts, at + 1, reached)
    elif isinstance(value, list):
        # A list has no place with more digits, and Python reads no number with thousands of them.
        if parts[at].isdecimal() and len(parts[at]) < 10 and int(parts[at]) < len(value):
            _walk(value[int(parts[at])], parts, at + 1, reached)
        for element in value:
            if isinstance(element, dict):
                _walk(element, parts, at, reached)


def _spread(values: Iterable[Any]) -> Iterable[Any]:
    """Yield each value, and the elements of those that are arrays."""
    for value in values:
        yield value
        if isinstance(value, list):
            yield from value


def _is_one_of(node: Where) -> Test:
    return _matcher(node.path, node.value if isinstance(node.value, tuple) else (node.value,))


def _is_listed(node: Where) -> Test:
    one_of, whole = _matcher(node.path, node.value), list(node.value)

    def matches(values: list[Any]) -> bool:
        lists = [value for value in values if isinstance(value, list)]
        if any(same(value, whole) for value in lists):
            return True
        return len(lists) < len(values) and one_of([each for each in values if not isinstance(each, list)])

    return matches


def _negated(test: Callable[[Where], Test]) -> Callable[[Where], Test]:
    def build(node: Where) -> Test:
        holds = test(node)
        return lambda values: not holds(values)

    return build


def _matcher(path: str, targets: tuple[Any, ...]) -> Test:
    """Build the test 'some reached value equals one of the targets'; a null target also matches a missing value."""
    plain = {key for key in map(_key, targets) if key is not None}
    nested = [target for target in targets if isinstance(target, dict | list)]
    globs = [glob(target) for target in targets if is_pattern(path, target)]
    with_null = any(target is None for target in targets)

    def matches(values: list[Any]) -> bool:
        if with_null and not values:
            return True
        for value in _spread(values):
            if isinstance(value, dict | list):
                if any(same(value, target) for target in nested):
                    return True
            elif _key(value) in plain:
                return True
            elif globs and isinstance(value, str) and any(pattern(value) for pattern in globs):
                return True
        return False

    return matches


def is_pattern(path: str, target: Any) -> bool:
    """Return whether a plain value is compared as a pattern with `*`."""
    return path in WILDCARD_FIELDS and isinstance(target, str) and "*" in target


def _key(value: Any) -> tuple[str, Any] | None:
    """Return equal keys for equal scalars; true and 1 differ, 1 and 1.0 do not, nor do two spellings of an instant."""
    if isinstance(value, str):
        moment = instant(value)
        return ("string", value) if moment is None else ("date", moment)
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int | float):
        return ("number", value)
    return ("null", None) if value is None else None


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal (booleans are not numbers)."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    key = _key(left)
    return key is not None and key == _key(right)


def _orders(node: Where) -> Test:
    target = _key(node.value)
    if target is None:  # the parser lets only scalars through
        raise bad_request(f"operator {node.operator!r} on {node.path!r} cannot compare {_short(node.value)}")
    kind, bound = target
    compare = _COMPARISONS[node.operator]

    def holds(value: Any) -> bool:
        key = _key(value)
        if key is None:
            return False
        if key[0] == kind:
            return compare(key[1], bound)
        # A date is compared with other text as text.
        return isinstance(value, str) and isinstance(node.value, str) and compare(value, node.value)

    return lambda values: any(holds(value) for value in _spread(values))


_COMPARISONS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def _element(node: Where) -> Test:
    holds = compile_filter(node.value)
    return lambda values: any(
        holds(element) for value in values for element in (value if isinstance(value, list) else (value,))
    )


def _globbed(node: Where) -> Test:
    pattern = glob(node.value)
    return lambda values: any(isinstance(value, str) and pattern(value) for value in _spread(values))


_TESTS: dict[str, Callable[[Where], Test]] = {
    **dict.fromkeys(("$eq", "$in"), _is_one_of),
    **dict.fromkeys(("$ne", "$nin"), _negated(_is_one_of)),
    LISTED: _is_listed,
    "$exists": lambda node: lambda values: bool(values) is node.value,
    "$match": _element,
    "$glob": _globbed,
    **dict.fromkeys(ORDERING, _orders),
}


# ------------------------------------------------------------------------------------------- dates and globs

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?")


def instant(text: str) -> float | None:
    """Read an ISO date as seconds since 1970 (UTC where no zone is given), or return None."""
    if len(text) < 10 or text[4] != "-" or not _DATE.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def glob(pattern: str) -> Callable[[str], bool]:
    """Compile a pattern in which a star is any text; slashes are characters like any other."""
    head, *middle = re.sub(r"\*+", "*", pattern).split("*")
    if not middle:
        return lambda text: text == head
    tail = middle.pop()

    def matches(text: str) -> bool:
        at, end = len(head), len(text) - len(tail)
        if at > end or not text.startswith(head) or not text.endswith(tail):
            return False
        for part in middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return matches


# ----------------------------------------------------------------------------------------------------- sorting

_RANKS = {"null": 0, "number": 1, "string": 2, "date": 2, "bool": 5}


def sort_key(document: Any, path: str) -> tuple[int, Any]:
    """Return the sort key of a document by one field: missing first, then by type, then by value."""
    values = values_at(document, path.split("."))
    value = values[0] if values else None
    key = _key(value)
    if key is None:
        return (3, str(value))
    # Text is ordered as text, ISO dates included: one spelling per field sorts by time anyway.
    return (_RANKS[key[0]], value if isinstance(value, str) else key[1] or 0)
