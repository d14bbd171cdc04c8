"""Numbers and words in prose that are tied to recorded values.

A comment right after a text ties it to a value: ``60 %<!-- share_saved:.0% -->``, ``81<!-- labels.margin:.0f -->``,
``margin<!-- best -->``. The comment names the value, the keys within it, and the format of ``format()``, ``time`` for
seconds, or the words for true and for false: ``refused<!-- was_refused:refused|accepted -->``. Markup may stand between
the two, as in ``**81**<!-- ... -->``.
"""

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alhelpers.runs.progress import duration

#: What a comment says after a number that is a definition, and changes with no run.
FIXED = "fixed"

#: The format of seconds that ``duration`` writes: 42 s, 3 min.
_TIME = "time"

_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_CODE = re.compile(r"^(```|~~~).*?^\1|(?<!`)(`+)(?!`).*?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)

#: Markup between a text and its comment.
_CLOSING = re.compile(r"[*`]*\Z")

#: Not the 5 of v2.5, nor the 20 of 10-20.
_NUMBER = r"(?<![\w.+−-])[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?:\s*%)?"
_DURATION = r"(?<![\w.])\d+ (?:s|min|h(?: \d+ min)?)"
_WORD = r"[\w-]+"
_FIXED_TEXT = r"(?<![\w.])[+−-]?\d[\w.,×–-]*(?:\s(?:[x×–-]|to)\s\d[\w.,×–-]*)*(?:\s*%)?"

#: What is no prose: headings, list markers, formulas, links with their texts, tags, addresses, entities.
_NOT_PROSE = re.compile(
    r"^\s*#+ [^\n]*|^\s*(?:[-*+]|\d+[.)])(?=\s)|\$\$.*?\$\$|\$[^$\n]+\$"
    r"|!?\[(?:[^\[\]]|\[[^\[\]]*\])*\](?:\([^()]*\)|\[[^\[\]]*\])|</?[a-zA-Z][^<>]*>|https?://\S+|&#?\w+;",
    re.DOTALL | re.MULTILINE,
)
#: Not the 1 of F1, nor the 18 of ResNet-18.
_UNTIED = re.compile(r"(?<![\w.])(?<![a-zA-Z]-)[+−-]?\d[\w,]*(?:\.\d+)?(?:\s*%)?")


class ClaimError(ValueError):
    """A tie names no value, its format does not fit the value, or no text stands before it."""


@dataclass(frozen=True)
class Tie:
    """A comment that ties the text before it: the name and format in it, and what lies between the last comment and it.

    ``end`` is where the tied text ends, in the whole text; ``closing`` the markup between it and the comment.
    """

    comment: str
    before: str
    closing: str
    end: int

    def render(self, scope: Mapping[str, Any]) -> str:
        """Return the text that the value has in the tie's format; raise ClaimError if there is none."""
        name, spec = self._parts
        value = _look_up(name, scope, self.comment)
        words = _words(spec)
        try:
            if words and isinstance(value, bool):
                text = words[not value]
            else:
                text = duration(value) if spec == _TIME else format(value, spec).strip()
        except (TypeError, ValueError) as error:
            raise ClaimError(f"<!-- {self.comment} --> can't write {value!r}: {error}") from error
        if not text:
            raise ClaimError(f"<!-- {self.comment} --> is an empty text")
        return text

    def text(self, *known: str) -> str:
        """Return the tied text as it stands, empty if there is none: it has the form of one of the known texts."""
        if self._parts[1] == _TIME:
            return _ending(_DURATION, self.before)
        number = _ending(_NUMBER, self.before)
        if number and re.fullmatch(_NUMBER, known[0]):
            return number
        for words in (*known, *_words(self._parts[1])):
            if found := _ending(rf"(?<![\w-]){re.escape(words)}", self.before):
                return found
        if re.fullmatch(_NUMBER, known[0]):
            return ""
        opening = self.before.rfind(self.closing[0]) if self.closing else -1
        return self.before[opening + 1 :] if opening >= 0 else _ending(_WORD, self.before)

    @property
    def _parts(self) -> tuple[str, str]:
        name, colon, spec = self.comment.rpartition(":")
        return (name.strip(), spec.strip()) if colon else (self.comment, "")


def ties(text: str, wanted: Callable[[str], bool] = lambda _: True) -> list[Tie]:
    """Return the ties of a markdown text, but for those in code; ``wanted`` chooses by the comment."""
    found, last = [], 0
    for comment in _COMMENT.finditer(_blank(_CODE, text)):
        before = text[last : comment.start()]
        closing = _ending(_CLOSING, before)
        if comment[1] != FIXED and wanted(comment[1]):
            end = comment.start() - len(closing)
            found.append(Tie(" ".join(comment[1].split()), text[last:end], closing, end))
        last = comment.end()
    return found


def problems(
    text: str, scope: Mapping[str, Any], wanted: Callable[[str], bool] = lambda _: True
) -> list[str]:
    """Return what is wrong with the ties of a text, a line each: unknown names, and texts that say other values."""
    found = []
    for tie in ties(text, wanted):
        try:
            new = tie.render(scope)
        except ClaimError as error:
            found.append(str(error))
            continue
        old = tie.text(new)
        if _normal(old) != _normal(new):
            said = f"the text says {old!r}" if old else f"no such text stands before it: write {new}"
            found.append(f"<!-- {tie.comment} --> is {new}, and {said}")
    return found


def rewrite(
    text: str,
    scope: Mapping[str, Any],
    wanted: Callable[[str], bool] = lambda _: True,
    *,
    earlier: Mapping[str, Any] | None = None,
) -> tuple[str, list[str]]:
    """Return a text whose tied numbers and words say the values, and a line for each change.

    Ties that fit nothing are left as they are; `problems` finds them.

    Parameters
    ----------
    text : str
        Markdown.
    scope : mapping
        The values by name.
    wanted : callable
        Whether a comment is a tie.
    earlier : mapping, optional
        The earlier values, which say how many words of the text are the tied ones.
    """
    parts, changes, done = [], [], 0
    for tie in ties(text, wanted):
        try:
            new = tie.render(scope)
        except ClaimError:
            continue
        known = [new]
        with contextlib.suppress(ClaimError):
            known.append(tie.render(earlier or {}))
        old = tie.text(*known)
        if not old or _normal(old) == _normal(new):
            continue
        written = re.sub(r"\s*%$", " %", new)
        parts += [text[done : tie.end - len(old)], written]
        done = tie.end
        changes.append(f"{tie.comment}: {old} -> {written}")
    return "".join([*parts, text[done:]]), changes


def untied_numbers(text: str) -> list[str]:
    """Return the numbers in the prose of a markdown text that no comment ties or declares fixed.

    Headings, list markers, code, formulas, links and names such as F1 are not prose.
    """
    bare = _blank(_CODE, text)
    for comment in reversed(list(_COMMENT.finditer(bare))):
        before = bare[: comment.start()]
        before = before[: len(before) - len(_ending(_CLOSING, before))]
        claim = _FIXED_TEXT if comment[1] == FIXED else f"(?:{_DURATION}|{_NUMBER}|{_WORD})"
        start = len(before) - len(_ending(claim, before))
        bare = bare[:start] + " " * (comment.end() - start) + bare[comment.end() :]
    return [match[0].rstrip(",") for match in _UNTIED.finditer(_blank(_NOT_PROSE, bare))]


def _words(spec: str) -> list[str]:
    """Return the words for true and for false of a format such as ``won|lost``, nothing if it is another one."""
    words = [word.strip() for word in spec.split("|")]
    return words if len(words) == 2 else []


def _look_up(name: str, value: Any, comment: str) -> Any:
    """Return the value of a name with keys, ``labels.margin``; keys may contain spaces and dots."""
    if not name:
        return value
    if isinstance(value, list):
        value = {str(number): entry for number, entry in enumerate(value)}
    keys = value if isinstance(value, Mapping) else ()
    for key in sorted(keys, key=len, reverse=True):
        if name == key or name.startswith(f"{key}."):
            return _look_up(name[len(key) + 1 :], value[key], comment)
    known = f"there are {', '.join(keys)}" if keys else "nothing is recorded here"
    raise ClaimError(f"<!-- {comment} --> names no recorded value at {name!r}: {known}")


def _ending(pattern: str | re.Pattern, text: str) -> str:
    """Return the end of a text that has a form, or an empty text."""
    found = re.search(rf"(?:{pattern})\Z", text) if isinstance(pattern, str) else pattern.search(text)
    return found[0] if found else ""


def _blank(pattern: re.Pattern, text: str) -> str:
    """Return a text of the same length with spaces in place of what has a form; lines stay."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _normal(text: str) -> str:
    return re.sub(r"\s+(?=%)", "", text.replace("−", "-"))
