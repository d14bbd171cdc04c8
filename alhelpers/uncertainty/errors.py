"""Errors and warnings of committees."""


class CommitteeError(ValueError):
    """A committee that cannot be built, trained, used or loaded; the message names the reason and the way out."""


class CommitteeWarning(UserWarning):
    """A member was trained without one of the classes, as ``allow_missing`` permits."""
