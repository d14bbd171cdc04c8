"""What the tests of Keras use, and, as a program, a process with Keras on torch whose forks run their code."""

import itertools  # noqa: F401 - for the code of the tests, as are all the names here
import os
import sys
import traceback
from pathlib import Path

import keras
import numpy as np

from alhelpers.forking import Server, exit_fast
from alhelpers.uncertainty import DropoutError  # noqa: F401
from alhelpers.uncertainty.keras import MonteCarloDropout, mc_dropout  # noqa: F401


def raises(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), str(error)
    else:
        raise AssertionError(f"nothing raised {words!r}")


def numbers(variable):
    return keras.ops.convert_to_numpy(variable.value).copy()


def numbers_of(tensor):
    return keras.ops.convert_to_numpy(tensor).astype(float)


def classifier(*middle, end="softmax"):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, activation="relu"),
            *middle,
            keras.layers.Dense(3, activation=end),
        ]
    )


inputs = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)


def main() -> None:
    """Fork on each request; a fork runs the code of its request, in a folder."""
    question, _ = Server(int(sys.argv[1]), sys.argv[2:]).serve()
    if question is not None:
        os.chdir(question["folder"])
        try:
            exec(question["code"], globals())  # noqa: S102 - the body of a test
        except BaseException:  # noqa: BLE001 - whatever it is, the test reports it
            Path("error.txt").write_text(traceback.format_exc())
            os._exit(1)
    exit_fast()


if __name__ == "__main__":
    main()
