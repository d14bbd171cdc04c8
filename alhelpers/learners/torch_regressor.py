"""A learner of any torch module that predicts numbers."""

from __future__ import annotations

from alhelpers.learners.torch_learner import TorchLearner


class TorchRegressor(TorchLearner):
    """A regressor of any torch module; a :class:`~alhelpers.protocols.Learner`.

    Its predictions have ``values`` (N,) instead of confidences, or (N, O) where the module has O outputs.

    Parameters
    ----------
    build : torch.nn.Module or callable
        As of :class:`~alhelpers.learners.TorchClassifier`; the module returns (B,), (B, 1) or (B, O) numbers.
    logits : callable, optional
        Returns these numbers from the module's output, such as ``lambda output: output["values"]``.
    loss : callable, optional
        Takes the outputs and the labels of a batch, both (B, O), and returns a number. The default is the mean squared
        error.
    task : {"regression"}
        The only one.
    preprocess, embedding, steps, batch_size, learning_rate, augmentation, patience, evaluations, device
        With ``prediction_batch_size`` and ``seed``, as of :class:`~alhelpers.learners.TorchClassifier`.

    Notes
    -----
    The labels are learned in their own units: scale them to a mean near 0 and a deviation near 1, as the recipe of the
    training is made for outputs of that size.

    Examples
    --------
    >>> learner = TorchRegressor(lambda: nn.Sequential(nn.Linear(9, 32), nn.Dropout(0.2), nn.Linear(32, 1)))
    >>> history = learner.fit(labelled)
    >>> predictions = learner.predict(pool, passes=20)
    """

    _tasks = ("regression",)
