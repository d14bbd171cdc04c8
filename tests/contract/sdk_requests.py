"""The requests that the installed SDK can send, read from its source: each call of ``gen_request``, and its path.

A path is built of constants, ``format`` and f-strings, and of attributes and variables with one constant value in the
same class or function. Whatever else stands in a path is taken for a variable part.
"""

import ast
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HOLE = "{}"
Names = dict[str, list[ast.expr]]
# The methods of the client that send a request, and the names of their arguments.
SENDERS = {"gen_request": ("req_type", "path"), "gen_async_request": ("req_type", "path")}


class Request(NamedTuple):
    """A method, a path in which ``{}`` is a variable part, and the place of the call."""

    method: str
    path: str
    place: str


def requests(package: Path) -> Iterator[Request]:
    """Iterate over the requests in the source of a package."""
    for file in sorted(package.rglob("*.py")):
        module = ast.parse(file.read_text())
        constants = _assigned(module.body)
        for owner in [each for each in module.body if isinstance(each, ast.ClassDef)]:
            functions = [
                each for each in ast.walk(owner) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            known = constants | _assigned(owner.body, "self.")
            for function in functions:
                known |= {name: value for name, value in _assigned(ast.walk(function)).items() if "." in name}
            for function in functions:
                names = known | _assigned(ast.walk(function))
                for call in ast.walk(function):
                    if isinstance(call, ast.Call) and _name(call.func).rpartition(".")[2] in SENDERS:
                        yield from _sent(call, names, f"{file.relative_to(package)}:{call.lineno}")


def _sent(call: ast.Call, names: Names, place: str) -> Iterator[Request]:
    given = dict(zip(("req_type", "path"), call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    for method in _texts(given["req_type"], names):
        for path in _texts(given["path"], names):
            yield Request(method.upper(), path.partition("?")[0].replace("//", "/"), place)


def _assigned(nodes: Iterable[ast.AST], prefix: str = "") -> Names:
    """Collect the values that are assigned to each name or attribute, in their order."""
    found: Names = {}
    for node in nodes:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name | ast.Attribute) and isinstance(value, ast.expr):
                if isinstance(node, ast.AugAssign):
                    value = ast.BinOp(target, node.op, value)
                found.setdefault(prefix + _name(target), []).append(value)
    return found


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _texts(node: ast.expr, names: Names) -> list[str]:
    """List the texts that an expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [left + right for left in _texts(node.left, names) for right in _texts(node.right, names)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return [text.replace("%s", HOLE) for text in _texts(node.left, names)]
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
        return ["".join(chosen) for chosen in itertools.product(*(_texts(part, names) for part in parts))]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, names), *_texts(node.orelse, names)]
    if isinstance(node, ast.Call):
        return _called(node, names)
    return _looked_up(_name(node), names)


def _called(node: ast.Call, names: Names) -> list[str]:
    function = _name(node.func).rpartition(".")[2] or getattr(node.func, "attr", "")
    if function == "format" and isinstance(node.func, ast.Attribute):
        return [_filled(text, node, names) for text in _texts(node.func.value, names)]
    if function in ("urlparse", "urlunparse"):
        return _texts(node.args[0], names)
    if function == "_replace" and isinstance(node.func, ast.Attribute):
        return _texts(node.func.value, names)
    return [HOLE]


def _looked_up(name: str, names: Names) -> list[str]:
    """List the texts of a name; one that is made of an earlier value of the name stands for both."""
    texts: list[str] = []
    values = names.get(name, [])
    for number, value in enumerate(values):
        made = _texts(value, names | {name: values[:number]})
        kept = [text for text in texts if not any(text in each for each in made)]
        texts = list(dict.fromkeys([*kept, *made]))
    return texts or [HOLE]


def _filled(text: str, call: ast.Call, names: Names) -> str:
    """Fill a format string where its arguments are constant."""
    values = [_texts(each, names)[-1] for each in call.args]
    named = {each.arg: _texts(each.value, names)[-1] for each in call.keywords if each.arg}
    try:
        return text.format(*values, **named)
    except (IndexError, KeyError):
        return text
