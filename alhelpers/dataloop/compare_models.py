"""The pipeline node "Compare Models": whether the new model replaces the one in use.

The node reads annotations or training metrics from the platform, :mod:`alhelpers.evaluation` decides, and the
decision is stored in the new model. The platform loads this file by its path, with the package beside it:
:func:`alhelpers.dataloop.app.write_codebase` writes both.
"""

import logging
from collections.abc import Mapping
from typing import Any

import dtlpy as dl

from alhelpers.dataloop.evaluation_data import output_type, read_samples, read_test_set
from alhelpers.evaluation import (
    CompareConfig,
    Comparison,
    compare_metrics,
    compare_predictions,
    read_compare_config,
)
from alhelpers.evaluation.comparing import check_fit

logger = logging.getLogger(__name__)

#: The key of the new model's user metadata that holds the decision: system metadata belongs to the platform.
SUMMARY_KEY = "compare"


def compare(
    previous_model: dl.Model,
    new_model: dl.Model,
    config: Mapping[str, Any] | CompareConfig | None = None,
    dataset: dl.Dataset | None = None,
) -> Comparison:
    """Compare two models by metrics on the dataset that both were evaluated on, or by training metrics (``checks``).

    Nothing on the platform is changed. A ValueError means that the configuration is not valid, or that predictions,
    metrics or ground truth are missing (`alhelpers.evaluation.NoGroundTruth`).

    >>> print(compare(old, new, {"precision_recall": {"min_delta": 0.01}}, dataset))  # doctest: +SKIP
    """
    parsed = read_compare_config(config)
    names = (previous_model.name, new_model.name)
    if dataset is not None and parsed.metrics:
        check_fit(parsed, output_type(previous_model, new_model))
        test = read_test_set(previous_model, new_model, dataset, parsed.test_query)
        if parsed.checks:
            test.warnings.append("the checks of training metrics are not compared: the test items decide")
        return compare_predictions(test, parsed, names)
    if parsed.checks:
        comparison = compare_metrics(read_samples(previous_model), read_samples(new_model), parsed, names)
        if parsed.metrics:
            left_out = ", ".join(metric.name for metric in parsed.metrics)
            comparison.warnings.append(
                f"there is no dataset, so {left_out} is not compared: the checks decide"
            )
        return comparison
    raise ValueError(
        f"comparing by {parsed.metrics[0].name} needs the dataset that both models were evaluated on: pass dataset=, "
        "or a configuration with 'checks' to compare by training metrics"
    )


def store_summary(model: dl.Model, comparison: Comparison, ids: Mapping[str, str | None]) -> None:
    """Store the decision in the new model's user metadata, where ``model.update()`` leaves it.

    The ids show which models it is about: a clone may inherit the summary of another one.
    """
    # update() sends the whole model, so an outdated copy would turn its status back.
    fresh = model.models.get(model_id=model.id)
    fresh.metadata = fresh.metadata or {}
    summary = {SUMMARY_KEY: {**ids, **comparison.to_dict()}}
    fresh.metadata["user"] = (fresh.metadata.get("user") or {}) | summary
    model.metadata = fresh.update(reload_services=False).metadata


class ModelComparer(dl.BaseServiceRunner):
    """The service behind the node "Compare Models"."""

    @staticmethod
    def compare_models(
        previous_model: dl.Model,
        new_model: dl.Model,
        progress: dl.Progress | None = None,
        context: dl.Context | None = None,
        compare_config: dict | None = None,
        dataset: dl.Dataset | None = None,
    ) -> dl.Model:
        """Choose the better of two models.

        The decision is stored in the new model's ``metadata['user']['compare']``, also if the model is
        discarded; the previous model is never changed.

        Parameters
        ----------
        previous_model, new_model : dl.Model
            The model in use and the one that may replace it.
        progress : dl.Progress, optional
            Receives the action, ``"update model"`` or ``"discard"``, and the reason as the message.
        context : dl.Context, optional
            Not needed.
        compare_config : dict, optional
            As :func:`alhelpers.evaluation.read_compare_config` takes it; it is not changed.
        dataset : dl.Dataset, optional
            The dataset that both models were evaluated on; without it they are compared by training metrics.

        Returns
        -------
        dl.Model
            The new model if it is better, else the previous one.

        Raises
        ------
        ValueError
            As `compare`; neither model is changed then.

        Examples
        --------
        >>> config = {"precision_recall": {"iou_threshold": 0.5, "min_delta": 0}}  # doctest: +SKIP
        >>> winner = ModelComparer.compare_models(old, new, dl.Progress(), None, config, dataset)  # doctest: +SKIP
        """
        comparison = compare(previous_model, new_model, compare_config, dataset)
        for warning in comparison.warnings:
            logger.warning(warning)
        store_summary(
            new_model,
            comparison,
            {
                "previous_model_id": previous_model.id,
                "new_model_id": new_model.id,
                "dataset_id": dataset.id if dataset is not None else None,
            },
        )
        if progress is not None:
            progress.update(progress=100, action=comparison.action, message=comparison.message)
        return new_model if comparison.better else previous_model
