"""A notebook's parameters: read from its parameters cell, and checked before anything runs.

papermill only warns about a parameter that the notebook does not have, and accepts any type; a sweep with a typo would
silently run the default.
"""

import ast
import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alhelpers.configurations import literal_or_text, named_texts

_TYPES: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": (int, float),
    "str": str,
    "list": list,
    "dict": dict,
    "tuple": (tuple, list),  # papermill passes a list
    "none": type(None),
}

#: An assignment at the start of a line, as most languages write it.
_ASSIGNMENT = re.compile(r"^\s*(?:\w+\s+)*\$?(\w+)\s*(?::[^=\n]*)?(?:<-|=)(?!=)", re.MULTILINE)


class ParameterError(ValueError):
    """A parameters cell is not valid, or a value is unknown or of another type."""


class Expression(str):
    """The source of a default that only the notebook itself computes."""


@dataclass(frozen=True)
class Parameter:
    """A name that a parameters cell assigns, with its declared type, or an empty one."""

    name: str
    type_name: str = ""
    default: Any = None


def declared(source: str, language: str = "python") -> dict[str, Parameter]:
    """Return the parameters that a parameters cell assigns, by name, in the cell's order.

    The cell may hold any code, as for papermill. A default that is computed, or that JSON can't hold, is an
    `Expression`; of a cell in another language than Python only the names are known.
    """
    if language.lower() != "python":
        return {name: Parameter(name) for name in _ASSIGNMENT.findall(source)}
    found: dict[str, Parameter] = {}
    for node in _parsed(source).body:
        for name, type_name, default in _assigned(node):
            known = found.get(name, Parameter(name))
            found[name] = Parameter(name, type_name or known.type_name, default)
    return found


def _parsed(source: str) -> ast.Module:
    with contextlib.suppress(SyntaxError):
        return ast.parse(source)
    # Perhaps a magic. Slow to import, and few cells have one.
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ParameterError(
            f"line {error.lineno} of the parameters cell is not valid Python: {error.msg}, {line!r}"
        ) from error


def _assigned(node: ast.AST) -> Iterator[tuple[str, str, Any]]:
    """Yield the names that a statement assigns, each with its declared type and its value."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name, ast.unparse(node.annotation), _value(node.value)
        case ast.Assign(targets=[ast.Name(id=name)]):
            yield name, "", _value(node.value)
        case ast.Name(id=name, ctx=ast.Store()):
            yield name, "", None
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda() | ast.comprehension():
            pass
        case _:  # not by itself, perhaps not at all or more than once
            source = Expression(ast.unparse(node))
            for child in ast.iter_child_nodes(node):
                yield from ((name, type_name, source) for name, type_name, _ in _assigned(child))


def _value(node: ast.expr | None) -> Any:
    """Return a default that JSON can hold, or the source of another one."""
    with contextlib.suppress(ValueError, TypeError):
        value = None if node is None else ast.literal_eval(node)
        if _is_plain(value):
            return value
    return Expression(ast.unparse(node))


# ------------------------------------------------------------------------------
# checks
# ------------------------------------------------------------------------------


def check(parameters: Mapping[str, Parameter], values: Mapping[str, Any], *, where: str) -> None:
    """Raise ParameterError unless papermill can pass the values, and each name and type is the notebook's."""
    check_types(parameters, values, where=where)
    for name, value in values.items():
        if not _is_plain(value):
            raise ParameterError(
                f"parameter {name!r} is {value!r} ({type(value).__name__}): pass None, a bool, int, float or str, or a"
                " list or dict of these, with texts as keys"
            )


def check_types(parameters: Mapping[str, Parameter], values: Mapping[str, Any], *, where: str) -> None:
    """Raise ParameterError if a name is unknown (with the nearest known one) or a value has another type."""
    for name, value in values.items():
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"did you mean {near[0]!r}? It" if near else "it"
            known = ", ".join(parameters) or "none; is its cell tagged 'parameters'?"
            raise ParameterError(f"{where} has no parameter {name!r}: {hint} takes {known}")
        _check_value(parameters[name], value)


def _check_value(parameter: Parameter, value: Any) -> None:
    annotation = _annotation(parameter.type_name)
    if _is_a(value, annotation) or value is parameter.default is None:
        return
    what = f"is {value!r} ({type(value).__name__})"
    outer = annotation.value if isinstance(annotation, ast.Subscript) else None
    if _name(outer) in _TYPES and _is_a(value, outer):
        what = f"has an element of another type in {value!r}"
    known = not isinstance(parameter.default, Expression) and value is not parameter.default
    example = f", such as {parameter.default!r}" if known else ""
    raise ParameterError(f"parameter {parameter.name!r} {what}: it takes {parameter.type_name}{example}")


def _annotation(type_name: str) -> ast.expr | None:
    try:
        return ast.parse(type_name, mode="eval").body
    except SyntaxError:
        return None


def _is_a(value: Any, annotation: ast.expr | None) -> bool:
    """Return whether a value has a declared type; a type that is not known here takes every value."""
    match annotation:
        case ast.Constant(value=str(type_name)):
            return _is_a(value, _annotation(type_name))
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _is_a(value, left) or _is_a(value, right)
        case ast.Subscript(value=outer, slice=inner):
            return _is_generic(value, outer, inner.elts if isinstance(inner, ast.Tuple) else [inner])
    name = _name(annotation)
    if name not in _TYPES:
        return True
    return isinstance(value, _TYPES[name]) and (name == "bool" or not isinstance(value, bool))


def _is_generic(value: Any, outer: ast.expr, inner: list[ast.expr]) -> bool:
    match _name(outer):
        case "literal":
            return any(value == entry and type(value) is type(entry) for entry in map(_value, inner))
        case "union" | "optional" as name:
            return any(_is_a(value, each) for each in inner) or (value is None and name == "optional")
        case "list":
            return isinstance(value, list) and all(_is_a(entry, inner[0]) for entry in value)
        case "dict" if len(inner) == 2 and isinstance(value, dict):
            return all(_is_a(key, inner[0]) and _is_a(entry, inner[1]) for key, entry in value.items())
    return _is_a(value, outer)


def _name(node: ast.expr | None) -> str:
    """Return the last name of a type in lower case: list for ``typing.List``."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lower()
    return "none" if isinstance(node, ast.Constant) and node.value is None else ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


# ------------------------------------------------------------------------------
# the command line
# ------------------------------------------------------------------------------


def given(pairs: list[str], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Parse options ``NAME=VALUE``: each value has the declared type, or that of the default, if it can."""
    return {name: _typed(text, parameters.get(name)) for name, text in _texts(pairs).items()}


def given_lists(pairs: list[str], parameters: Mapping[str, Parameter]) -> dict[str, list[Any]]:
    """Parse options ``NAME=VALUE,VALUE``."""
    return {
        name: [_typed(part, parameters.get(name)) for part in _split(text)]
        for name, text in _texts(pairs).items()
    }


def _texts(pairs: list[str]) -> dict[str, str]:
    try:
        return named_texts(pairs)
    except ValueError as error:
        raise ParameterError(str(error)) from None


def _split(text: str) -> list[str]:
    """Split at commas, but for those within brackets and quotes of Python."""
    source = f"[{text}]"
    try:
        parts = ast.parse(source, mode="eval").body.elts
    except (SyntaxError, AttributeError):
        return [part.strip() for part in text.split(",")]
    return [ast.get_source_segment(source, part) for part in parts]


def _typed(text: str, parameter: Parameter | None) -> Any:
    """Return the first reading of a text that has the parameter's type, or that of its default."""
    literal = literal_or_text(text)
    if parameter is None:
        return literal
    default, type_name = parameter.default, parameter.type_name
    if not type_name and type(default) in (bool, int, float, str):
        type_name = type(default).__name__
    if not type_name:
        return literal
    readings = [literal, {"true": True, "false": False}.get(text.lower(), literal), _number(text), text]
    words = re.findall(r"\w+", type_name)
    if "float" in words and "int" not in words:
        readings.insert(0, _number(text))
    annotation = _annotation(type_name)
    for value in readings:
        if _is_a(value, annotation):
            return value
    if type_name == "bool":  # where any other text would count as true
        _check_value(Parameter(parameter.name, type_name, default), literal)
    return literal


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
