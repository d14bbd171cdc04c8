"""The strategy that ``pick`` is asked for: its name or function, its options, and the metadata that it reads."""

import argparse
from typing import TYPE_CHECKING, Any

from alhelpers.cli.tables import KEY, read_table

if TYPE_CHECKING:
    from alhelpers.data import FolderDataset

Rows = list[dict[str, str]]


class WrongUsage(ValueError):
    """The command line is wrong, and nothing was computed."""


def check_strategy(options: argparse.Namespace) -> tuple[Any, Rows]:
    """Return the strategy, or None for the default, and the rows of the metadata; a ValueError names what is wrong."""
    from alhelpers import mining
    from alhelpers.cli.functions import function_of, is_function

    strategy = options.strategy
    if strategy is not None and is_function(strategy):
        strategy = function_of(strategy)
    needed = [] if strategy is None else mining.needed_fields(strategy)
    read = [name.partition(".") for each in needed for name in each.documents]
    # "value" is what a regression predicts
    columns = [name for document, _, name in read if document == "metadata" and name != "value"]
    if options.metadata is None:
        if columns and not _predicts_scores(options):
            raise ValueError(
                f"--strategy {options.strategy} needs metadata: name a table of path and {', '.join(columns)} with"
                " --metadata CSV"
            )
        return strategy, []
    if not options.metadata.is_file():
        raise ValueError(f"{options.metadata} is not there: name a CSV file with the column path and others")
    return strategy, read_table(options.metadata, *columns)


def _predicts_scores(options: argparse.Namespace) -> bool:
    """Return whether the model is a segmenter, which predicts numbers of pictures such as ``metadata.bald``."""
    from alhelpers.cli.model_file import load_model

    if options.model is None:
        return False
    model = load_model(options.model, options.weights, options.seed)
    return getattr(model.learner, "task", None) == "segmentation"


def metadata_of(
    options: argparse.Namespace, rows: Rows, photos: "FolderDataset"
) -> dict[str, list[Any]] | None:
    """Return the columns of the table, in the order of the folder, as numbers where all of them are."""
    if options.metadata is None:
        return None
    by_path = {row[KEY]: row for row in rows}
    found = [by_path.get(id, {}) for id in photos.ids.tolist()]
    if not any(found):
        raise ValueError(
            f"{options.metadata} has no path of a picture in {options.photos}: write them as {photos.ids[0]!s}"
        )
    names = [name for name in rows[0] if name != KEY]
    return {name: _numbers([row.get(name) or None for row in found]) for name in names}


def _numbers(values: list[str | None]) -> list[Any]:
    try:
        return [None if value is None else float(value) for value in values]
    except ValueError:
        return values


def strategy_options(options: argparse.Namespace, strategy: Any) -> dict[str, Any]:
    """Return the values of --option, checked; a wrong one is wrong usage."""
    from alhelpers import mining
    from alhelpers.configurations import literal_or_text, named_texts

    try:
        given = {name: literal_or_text(text) for name, text in named_texts(options.option).items()}
        if given:
            mining.needed_fields({"strategy": strategy, "options": given})
    except ValueError as error:
        raise WrongUsage(f"--option {' --option '.join(options.option)}: {error}") from error
    return given


def compares(strategy: Any) -> bool:
    """Return whether a strategy compares with labelled records."""
    from alhelpers import mining

    known = mining.strategies().get(strategy, {}) if isinstance(strategy, str) else {}
    return known.get("reference", "none") != "none"
