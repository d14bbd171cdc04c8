"""A module beside the entry point: it must be importable."""

FACTOR = 2


def kind(value):
    """Say what arrived: the class and the id of an entity, the class and the value of anything else."""
    if isinstance(value, list):
        return [kind(each) for each in value]
    return [type(value).__name__, getattr(value, "id", value)]
