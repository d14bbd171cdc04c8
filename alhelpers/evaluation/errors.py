"""The errors of evaluation."""


class EvaluationError(ValueError):
    """Predictions or ground truth that cannot be evaluated; the message names the row and the value."""


class NoGroundTruth(EvaluationError):
    """There is no ground truth, so no model can be compared with another."""
