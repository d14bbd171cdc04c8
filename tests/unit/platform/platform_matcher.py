"""The documented rules of filters, written once more and as plainly as possible: no index, no compiling, no sharing."""

import re
from datetime import UTC, datetime
from operator import ge, gt, le, lt

from hypothesis import strategies as st

WILDCARDS = ("dir", "filename", "name", "metadata.system.mimetype")


def brute(query, document):
    """Say whether a document matches a filter of the dotted form."""
    return all(brute_entry(key, value, document) for key, value in query.items())


def brute_entry(key, value, document):
    if key == "$and":
        return all([brute(part, document) for part in value])
    if key == "$or":
        return any([brute(part, document) for part in value])
    if isinstance(value, list) and value:
        return any(
            canonical(each) == canonical(value)
            if isinstance(each, list)
            else brute_operator("", "$in", value, each)
            for each in brute_reach(document, key.split("."))
        )
    if not isinstance(value, dict):
        value = {"$eq": value}
    return all([brute_operator(key, operator, operand, document) for operator, operand in value.items()])


def brute_operator(path, operator, operand, document):
    if path == "dir" and isinstance(operand, str) and operand.startswith("/"):
        operand = operand.rstrip("/") or "/"
    reached = brute_reach(document, path.split(".")) if path else [document]
    if operator == "$exists":
        return (len(reached) > 0) == operand
    if operator in ("$ne", "$nin"):
        positive = {"$ne": "$eq", "$nin": "$in"}[operator]
        return not brute_operator(path, positive, operand, document)
    if operator == "$in":
        return any(brute_operator(path, "$eq", each, document) for each in operand)
    if operator == "$match":
        elements = [each for value in reached for each in (value if isinstance(value, list) else [value])]
        if all(key.startswith("$") and key not in ("$and", "$or") for key in operand):
            return any(brute_entry("", operand, each) for each in elements)
        return any(brute(operand, each) for each in elements)
    candidates = reached + [element for each in reached if isinstance(each, list) for element in each]
    if operator == "$glob" or (
        operator == "$eq" and path in WILDCARDS and isinstance(operand, str) and "*" in operand
    ):
        expression = ".*".join(map(re.escape, operand.split("*")))
        found = any(
            isinstance(each, str) and re.fullmatch(expression, each, re.DOTALL) for each in candidates
        )
        return found or (
            operator == "$eq" and operand in [each for each in candidates if isinstance(each, str)]
        )
    if operator == "$eq":
        return any(canonical(each) == canonical(operand) for each in candidates) or (
            operand is None and not reached
        )
    compare = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}[operator]
    bounds = [operand]
    if isinstance(operand, str) and re.fullmatch(r"-?\d{1,18}(\.\d{1,18})?", operand):
        bounds.append(float(operand))  # a number that was sent as text
    return any(brute_compare(compare, each, bound) for each in candidates for bound in bounds)


def brute_compare(compare, left, right):
    if isinstance(left, dict | list):
        return False
    (left_type, left_value), (right_type, right_value) = canonical(left), canonical(right)
    if left_type == right_type and left_type != "null":
        return compare(left_value, right_value)
    return isinstance(left, str) and isinstance(right, str) and compare(left, right)


def brute_reach(value, parts):
    if not parts:
        return [value]
    reached = []
    if isinstance(value, dict) and parts[0] in value:
        reached += brute_reach(value[parts[0]], parts[1:])
    if isinstance(value, list):
        if re.fullmatch(r"\d+", parts[0]) and int(parts[0]) < len(value):
            reached += brute_reach(value[int(parts[0])], parts[1:])
        for element in value:
            if isinstance(element, dict):
                reached += brute_reach(element, parts)
    return reached


def canonical(value):
    if isinstance(value, dict):
        return ("object", sorted((key, repr(canonical(inner))) for key, inner in value.items()))
    if isinstance(value, list):
        return ("array", [repr(canonical(inner)) for inner in value])
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int | float):
        return ("number", int(value) if value == int(value) else value)
    if value is None:
        return ("null", None)
    if re.match(r"\d{4}-\d\d-\d\d", value):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return ("string", value)
        return ("date", (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return ("string", value)


def single(keys, values=None):
    """Objects with one key; without values `keys` are pairs."""
    return (keys if values is None else st.tuples(keys, values)).map(lambda pair: {pair[0]: pair[1]})


def nested(conditions, max_leaves):
    """Conditions, and trees of them."""
    words = st.sampled_from(["$and", "$or"])
    return st.recursive(
        conditions, lambda each: single(words, st.lists(each, max_size=3)), max_leaves=max_leaves
    )
