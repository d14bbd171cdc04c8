"""Train networks of one design side by side, as one batched network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alhelpers.training import (
    Best,
    History,
    batches,
    check_recipe,
    checked_targets,
    evaluation_steps,
    move,
    moves,
    optimization,
)
from alhelpers.uncertainty.batched import BatchedNetwork


class Lesson(NamedTuple):
    """What one member learns from: rows of the common inputs, rows to look at, and its seed."""

    rows: np.ndarray
    validation_rows: np.ndarray
    seed: int


def train_together(
    models: Sequence[nn.Module],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    lessons: Sequence[Lesson],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    augmentation: bool = False,
    validation: tuple[torch.Tensor, np.ndarray | torch.Tensor] | None = None,
    evaluations: int = 10,
    progress: Callable[[int, int], None] | None = None,
    patience: int | None = None,
) -> list[History]:
    """Train models in place as :func:`alhelpers.training.train` trains each alone.

    The same batches, masks and learning rates; what differs is the rounding, as the members' numbers are
    multiplied in one call. AdamW works element by element, so one of it over stacked weights is one a member.

    Parameters
    ----------
    models : sequence of torch.nn.Module
        What :class:`BatchedNetwork` takes.
    inputs, labels : (N, ...) tensor, (N,) integers
        The data that the lessons' rows are of, on the models' device.
    lessons : sequence of Lesson
        One a member.
    steps, batch_size, learning_rate, augmentation, validation, looks, progress, patience
        As ``train`` has them. ``progress`` is called for each member at each look. Without ``validation``, a
        member looks at its own validation rows, if it has some.

    Returns
    -------
    list of History
        One a member.

    Raises
    ------
    ValueError
        As ``train`` does.
    NotBatchable
        If the models cannot run as one network. They are left as they were.
    """
    targets = checked_targets(inputs, labels)
    looking = [_validation(inputs, targets, lesson, validation) for lesson in lessons]
    check_recipe(steps, batch_size, patience, validated=all(len(target) for _, target in looking))
    histories = [History([], [], [], []) for _ in lessons]
    for members in same_batches(lessons, batch_size):
        stack = BatchedNetwork(
            [models[member] for member in members],
            [torch.Generator(inputs.device).manual_seed(lessons[member].seed) for member in members],
        )
        group = _Group(
            stack,
            [lessons[member] for member in members],
            [looking[member] for member in members],
            [histories[member] for member in members],
            patience,
        )
        group.train(inputs, targets, steps, batch_size, learning_rate, augmentation, evaluations, progress)
    for model in models:
        model.eval()
    return histories


def same_batches(lessons: Sequence[Lesson], batch_size: int) -> list[list[int]]:
    """Group the members whose batches have one size: a fold smaller than a batch makes smaller ones."""
    sizes = [min(batch_size, len(lesson.rows)) for lesson in lessons]
    return [[member for member, own in enumerate(sizes) if own == size] for size in dict.fromkeys(sizes)]


def _validation(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    lesson: Lesson,
    common: tuple[torch.Tensor, np.ndarray | torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a member looks at; nothing where it has no validation."""
    if common is not None:
        return common[0], checked_targets(*common)
    return inputs[lesson.validation_rows], targets[lesson.validation_rows]


class _Group:
    """Members with batches of one size, trained as one network; one that stopped leaves the stack."""

    def __init__(
        self,
        stack: BatchedNetwork,
        lessons: list[Lesson],
        looking: list[tuple[torch.Tensor, torch.Tensor]],
        histories: list[History],
        patience: int | None,
    ) -> None:
        self.stack, self.lessons, self.looking, self.histories = stack, lessons, looking, histories
        self.best = [Best(patience) for _ in lessons]
        self.patience = patience

    def train(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        steps: int,
        batch_size: int,
        learning_rate: float,
        augmentation: bool,
        evaluations: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Run the steps, until the end or until the last member has stopped."""
        optimizer, schedule = optimization(self.stack.parameters(), steps, learning_rate)
        generators = [torch.Generator().manual_seed(lesson.seed) for lesson in self.lessons]
        order = self._order(batch_size, steps, generators).to(inputs.device)
        looking = evaluation_steps(steps, evaluations)
        self.stack.train()
        running: list[torch.Tensor] = []
        for step in range(1, steps + 1):
            members = self.stack.members
            rows = order[step - 1][:, members]  # (B, K)
            batch = inputs.index_select(0, rows.flatten()).unflatten(0, rows.shape)
            if augmentation:
                batch = _augmented(batch, [generators[member] for member in members])
            losses = _losses(self.stack(batch), targets[rows])
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step()
            schedule.step()
            running.append(losses.detach())
            if step in looking:
                self._look(step, running)
                running = []
                for _ in members if progress is not None else ():
                    progress(step, steps)
                self._stop_the_tired(optimizer)
            if not self.stack.members:
                return
        # a member with a best look has its weights already
        self.stack.write_back(
            [
                place
                for place, member in enumerate(self.stack.members)
                if self.best[member].loss == float("inf")
            ]
        )

    def _order(self, batch_size: int, steps: int, generators: list[torch.Generator]) -> torch.Tensor:
        """Return the rows of each step and member, (steps, B, K), in the order that each has alone."""
        orders = []
        for lesson, generator in zip(self.lessons, generators, strict=True):
            own = torch.stack(batches(len(lesson.rows), batch_size, steps, generator))
            orders.append(torch.from_numpy(lesson.rows)[own])
        return torch.stack(orders, dim=2)

    def _look(self, step: int, running: list[torch.Tensor]) -> None:
        """Add a row to the histories, and keep the weights of the members that were never better."""
        members = self.stack.members
        means = torch.stack(running).double().mean(0).tolist()
        improved = []
        validated = _evaluate(self.stack, [self.looking[member] for member in members])
        for place, (member, mean, (loss, accuracy)) in enumerate(zip(members, means, validated, strict=True)):
            history = self.histories[member]
            history.steps.append(step)
            history.loss.append(mean)
            if loss is None:
                continue
            history.validation_loss.append(loss)
            history.validation_accuracy.append(accuracy)
            if self.patience is not None and self.best[member].improved_by(loss):
                improved.append(place)
        self.stack.write_back(improved)

    def _stop_the_tired(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the members out of the stack that have stopped; one without a best look leaves its last weights."""
        places = range(len(self.stack.members))
        tired = [place for place in places if self.best[self.stack.members[place]].exhausted]
        self.stack.write_back(
            [place for place in tired if self.best[self.stack.members[place]].loss == float("inf")]
        )
        if tired:
            self.stack.keep([place for place in places if place not in tired], optimizer)


def _augmented(batch: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
    """Move each image as the member alone would, (B, K, C, H, W)."""
    drawn = torch.stack([moves(len(batch), generator) for generator in generators], dim=2)  # (4, B, K)
    return move(batch.flatten(0, 1), drawn.flatten(1)).view_as(batch)


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return each member's mean loss, (B, K, C) and (B, K) -> (K,)."""
    each = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return each.view_as(targets).mean(0)


def _evaluate(
    stack: BatchedNetwork, looking: list[tuple[torch.Tensor, torch.Tensor]]
) -> list[tuple[float | None, float | None]]:
    """Return loss and accuracy of each member on its validation records; None where a member has none."""
    sizes = [len(target) for _, target in looking]
    if not max(sizes):
        return [(None, None)] * len(looking)
    # shorter ones are filled up with records that nobody counts: in evaluation mode they change nothing
    padded = [
        inputs[torch.arange(max(sizes), device=inputs.device) % max(len(inputs), 1)] for inputs, _ in looking
    ]
    stack.eval()
    with torch.no_grad():
        logits = stack(torch.stack(padded, dim=1))
    stack.train()
    seen = []
    for place, (_, target) in enumerate(looking):
        own = logits[: len(target), place]
        loss = functional.cross_entropy(own, target).item()
        seen.append((loss, (own.argmax(1) == target).float().mean().item()))
    return seen
