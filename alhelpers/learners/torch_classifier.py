"""A learner of any torch module that classifies, with one or several labels a record."""

from __future__ import annotations

from alhelpers.learners.torch_learner import TorchLearner


class TorchClassifier(TorchLearner):
    """A classifier of any torch module; a :class:`~alhelpers.protocols.Learner`.

    A module that was trained elsewhere predicts without ``fit``.

    Parameters
    ----------
    build : torch.nn.Module or callable
        A module, or what builds one under torch's random seed: ``build()``, or ``build(seed)`` if it has a parameter
        without default. The module takes a batch of a data set's inputs: an array as it is, a tuple as positional and
        a dict as keyword arguments.
    task : {"classification", "multilabel"}
        One class a record, whose confidences are the softmax of the logits, or several labels a record, (N, C) of 0
        and 1, whose confidences are sigmoids: they do not sum to 1.
    preprocess : callable, optional
        Takes a batch of a data set's inputs, and returns a batch of what the module takes, an array or tensor, or a
        dict or tuple of them: resized, normalised or tokenised. It must be deterministic, as it runs once for what
        then stays in memory; random changes while training are an ``augmentation``.
    logits : callable, optional
        Returns the logits (B, C) from the module's output, such as ``lambda output: output["logits"]``.
    embedding : str, optional
        Name of the layer whose output is the embedding. The default is what goes into the last ``nn.Linear``.
    loss, steps, batch_size, learning_rate, augmentation, patience, evaluations
        The recipe, as in :func:`alhelpers.training.train`.
    prediction_batch_size : int
        Rows in one forward pass of a prediction.
    device : str or torch.device, optional
        Where to train and predict; between calls the module is where it was. None: where the module is, but from the
        CPU it goes to a GPU if torch finds one.
    seed : int
        Of the initial weights, where ``build`` is not a module.

    Attributes
    ----------
    network : torch.nn.Module
        The module with its current weights.

    Examples
    --------
    >>> learner = TorchClassifier(lambda seed: build_network(8, 10, seed=seed), steps=200)
    >>> history = learner.fit(labelled, validation=validation, seed=0)
    >>> predictions = learner.predict(pool, passes=20, embeddings=True)

    A model of another library, which takes keyword arguments and returns an object:

    >>> learner = TorchClassifier(
    ...     model,
    ...     preprocess=lambda texts: dict(tokenizer(list(texts), padding=True, return_tensors="pt")),
    ...     logits=lambda output: output.logits,
    ... )
    """

    _tasks = ("classification", "multilabel")
