"""Fisher's irises, and a small neural network that learns them. The demo's experiment.

Knows flowers, weights and numbers; never a store, a run or a path but that of its own table.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# The table is that of R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of
# Eugenics 7 (1936), 179-188: 150 flowers, 50 of each species, in cm. It is in the public domain. A copy in
# wide use differs from the paper in two rows, the 35th and the 38th; here they are as Fisher printed them:
# 4.9,3.1,1.5,0.2 (not 0.1) and 4.9,3.6,1.4,0.1 (not 3.1 and 1.5).
TABLE = Path(__file__).with_name("iris.csv")
SPECIES = ("setosa", "versicolor", "virginica")

Vector = list[float]


class Flower(NamedTuple):
    """Four measures, and the number of the species."""

    measures: Vector
    species: int


def load_flowers() -> list[Flower]:
    """Read the 150 flowers in Fisher's order."""
    with TABLE.open(newline="") as table:
        _, *rows = csv.reader(table)
    return [Flower([float(cell) for cell in cells], SPECIES.index(species)) for *cells, species in rows]


def split_flowers(
    flowers: Sequence[Flower], *, seed: int, test_size: int
) -> tuple[list[Flower], list[Flower]]:
    """Split into train and test, the same for the same seed; the train part's mean and spread scale both."""
    shuffled = random.Random(seed).sample(list(flowers), len(flowers))
    test, train = shuffled[:test_size], shuffled[test_size:]
    columns = list(zip(*(flower.measures for flower in train), strict=True))
    means = [math.fsum(column) / len(column) for column in columns]
    spreads = [
        math.sqrt(math.fsum((value - mean) ** 2 for value in column) / len(column))
        for column, mean in zip(columns, means, strict=True)
    ]

    def scaled(flower: Flower) -> Flower:
        measures = zip(flower.measures, means, spreads, strict=True)
        return Flower([(value - mean) / spread for value, mean, spread in measures], flower.species)

    return [scaled(flower) for flower in train], [scaled(flower) for flower in test]


class Network:
    """One hidden layer of tanh units, softmax on top, cross-entropy with weight decay, plain SGD.

    `hidden`: (units, 4 + 1), `output`: (3, units + 1); the last column is the bias.
    """

    def __init__(self, units: int, seed: int) -> None:
        self._luck = random.Random(seed)
        self.hidden = [[self._luck.gauss(0, 0.5) for _ in range(5)] for _ in range(units)]
        self.output = [[self._luck.gauss(0, 0.5) for _ in range(units + 1)] for _ in SPECIES]

    def fit(self, flowers: Sequence[Flower], *, lr: float, l2: float, epochs: int) -> Iterator[float]:
        """Learn, and yield the mean loss of each epoch.

        Raises: FloatingPointError when the loss is no number any more.
        """
        order = list(flowers)
        for epoch in range(epochs):
            self._luck.shuffle(order)
            loss = math.fsum(self._step(flower, lr, l2) for flower in order) / len(order)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} in epoch {epoch + 1}")
            yield loss

    def accuracy(self, flowers: Sequence[Flower]) -> float:
        """Give the share of flowers whose species is guessed right."""
        right = 0
        for flower in flowers:
            scores = self._scores(self._activations(flower.measures))
            right += scores.index(max(scores)) == flower.species
        return right / len(flowers)

    def _activations(self, measures: Vector) -> Vector:
        inputs = [*measures, 1.0]
        return [*(math.tanh(_dot(unit, inputs)) for unit in self.hidden), 1.0]

    def _scores(self, activations: Vector) -> Vector:
        return [_dot(row, activations) for row in self.output]

    def _step(self, flower: Flower, lr: float, l2: float) -> float:
        """Move the weights against the gradient of one flower's loss; give that loss before the move."""
        activations = self._activations(flower.measures)
        scores = self._scores(activations)
        top = max(scores)
        shares = [math.exp(score - top) for score in scores]
        total = sum(shares)
        errors = [share / total - (species == flower.species) for species, share in enumerate(shares)]
        back = [
            _dot(errors, [row[unit] for row in self.output]) * (1 - activations[unit] ** 2)
            for unit in range(len(self.hidden))
        ]
        _descend(self.output, errors, activations, lr, l2)
        _descend(self.hidden, back, [*flower.measures, 1.0], lr, l2)
        return math.log(total) + top - scores[flower.species]


def _dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _descend(layer: list[Vector], errors: Vector, inputs: Vector, lr: float, l2: float) -> None:
    for row, error in zip(layer, errors, strict=True):
        row[:] = [w - lr * (error * value + l2 * w) for w, value in zip(row, inputs, strict=True)]
