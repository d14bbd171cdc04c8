"""MC dropout of Keras models, each test in a process of its own environment: Keras reads it when it is imported."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from alhelpers.forking import ServerProcess


def environment(folder, backend="torch"):
    return os.environ | {"KERAS_BACKEND": backend, "KERAS_HOME": str(folder / "keras")}


@pytest.fixture
def fresh_process(tmp_path):
    """Runs code in a fresh Python, and returns its output."""

    def run(code, backend="torch"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=environment(tmp_path, backend),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A process with Keras on torch imported: importing them takes longer than most tests."""
    home = environment(tmp_path_factory.mktemp("keras"))
    home["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
    )
    process = ServerProcess("helpers_keras", [], home)
    yield process
    process.close()


@pytest.fixture
def keras_process(server, tmp_path):
    """Runs code in a fork of the process with Keras, in a folder of the test."""

    def run(code):
        pid = server.request({"fork": True, "code": textwrap.dedent(code), "folder": str(tmp_path)})
        assert pid is not None, "the process with Keras has died"
        code = server.request({"reap": pid})
        error = tmp_path / "error.txt"
        assert code == 0, error.read_text() if error.exists() else f"it ended with code {code}"

    return run


def test_passes_have_the_closed_form_distribution(keras_process):
    # All 2^4 masks of the hidden units are enumerated. The standard error of a mean over 4000 passes is at most
    # 0.5 / sqrt(4000) = 0.008 and that of a second moment no larger; 90 means of each are compared at 6 of them:
    # the chance of failing is below 10^-6.
    keras_process("""
        for layer in (MonteCarloDropout(0.4), keras.layers.Dropout(0.4)):
            model = classifier(layer)
            hidden = np.maximum(inputs @ numbers(model.layers[0].kernel), 0)
            kernel = numbers(model.layers[-1].kernel)
            first = second = 0
            for mask in itertools.product([0, 1], repeat=4):
                chance = np.prod([0.6 if kept else 0.4 for kept in mask])
                logits = hidden * np.array(mask) / 0.6 @ kernel
                each = np.exp(logits - logits.max(1, keepdims=True))
                each /= each.sum(1, keepdims=True)
                first, second = first + chance * each, second + chance * each**2
            samples, confidences = mc_dropout(model, np.repeat(inputs, 100, axis=0), 40, batch_size=3000)
            assert samples.shape == (3000, 40, 3) and samples.dtype == confidences.dtype == np.float32
            np.testing.assert_allclose(confidences, samples.mean(axis=1), atol=1e-6)
            samples = samples.reshape(30, 4000, 3)  # masks are drawn for each record, the same one or not
            limit = 6 * 0.5 / np.sqrt(4000)
            assert abs(samples.mean(1) - first).max() < limit
            assert abs((samples**2).mean(1) - second).max() < limit
            assert samples.std(axis=1).max() > 0.05
    """)


def test_seeds_batch_norm_and_random_state(keras_process):
    keras_process("""
        model = classifier(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), MonteCarloDropout(0.2, seed=8))
        model.layers[1].moving_mean.assign(np.arange(4.0))
        before = [numbers(v) for v in model.variables]
        one, other, third = (mc_dropout(model, inputs, 6, batch_size=7, seed=s)[0] for s in (3, 3, 4))
        for was, now in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(was, numbers(now))
        np.testing.assert_array_equal(one, other)
        assert abs(one - third).max() > 0.01
        import torch
        state = torch.random.get_rng_state()
        mc_dropout(model, inputs, 2)
        assert torch.equal(state, torch.random.get_rng_state())
        assert abs(np.diff(one, axis=1)).max(axis=(1, 2)).min() > 0  # passes differ for every record
        # plain dropout is off again, its neighbour that stays on is not
        plain = classifier(keras.layers.Dropout(0.5))
        mc_dropout(plain, inputs, 2)
        np.testing.assert_array_equal(plain.predict(inputs, verbose=0), plain.predict(inputs, verbose=0))
        assert (model.predict(inputs, verbose=0) != model.predict(inputs, verbose=0)).any()
    """)


def test_the_layer_is_saved_and_loaded(keras_process):
    keras_process("""
        layer = MonteCarloDropout(0.3, seed=5, name="doubt")
        again = MonteCarloDropout.from_config(layer.get_config())
        assert again.get_config() == layer.get_config() and again.rate == 0.3
        model = classifier(layer)
        model.save("model.keras")
        for options in ({}, {"custom_objects": {"MonteCarloDropout": MonteCarloDropout}}):
            loaded = keras.models.load_model("model.keras", **options)
            assert type(loaded.layers[1]) is MonteCarloDropout
            for was, now in zip(mc_dropout(model, inputs, 3), mc_dropout(loaded, inputs, 3), strict=True):
                np.testing.assert_array_equal(was, now)
    """)


def test_dropout_of_every_kind_and_nested(keras_process):
    keras_process("""
        L = keras.layers
        def over(shape, *layers):
            return keras.Sequential([keras.Input(shape), *layers, L.Flatten(), L.Dense(3)])
        models = [
            (over((4, 4, 6), L.SpatialDropout2D(0.5)), (4, 4, 6)),
            (over((6,), L.AlphaDropout(0.5)), (6,)),
            (over((6,), L.GaussianDropout(0.5)), (6,)),
            (over((5, 4), L.LSTM(3, dropout=0.5)), (5, 4)),
            (over((5, 4), L.GRU(3, recurrent_dropout=0.5)), (5, 4)),
            (over((6,), keras.Sequential([L.Dense(5), L.Dropout(0.5)])), (6,)),
        ]
        sequence = keras.Input((5, 4))
        attended = L.MultiHeadAttention(2, 3, dropout=0.5)(sequence, sequence)
        models.append((keras.Model(sequence, L.Dense(3)(L.Flatten()(attended))), (5, 4)))
        for model, shape in models:
            given = np.random.default_rng(1).normal(size=(6, *shape)).astype(np.float32)
            samples, _ = mc_dropout(model, given, 4, outputs="logits", batch_size=4)
            assert (samples.std(axis=1).max(axis=1) > 0).all(), model.layers
            np.testing.assert_allclose(samples.sum(axis=2), 1, rtol=1e-5)
    """)


def test_passes_spread_as_in_the_training_mode_of_the_model(keras_process):
    # Means and variances of 6 records, 3 outputs and 400 draws against a plain loop with training=True, at 6
    # standard errors: for other seeds they fail with a probability of under 1e-6 in all.
    keras_process("""
        L = keras.layers

        class Guarded(L.Layer):
            def __init__(self):
                super().__init__()
                self.drop = L.Dropout(0.5)
            def call(self, x, training=None):
                if training:
                    x = self.drop(x, training=training)
                return x

        class Own(L.Layer):
            def call(self, x, training=None):
                return keras.random.dropout(x, 0.4, seed=self.seeds) if training else x
            def build(self, shape):
                self.seeds = keras.random.SeedGenerator(1)

        class Both(Own):
            def build(self, shape):
                super().build(shape)
                self.mean = self.add_weight(shape=(), trainable=False)
            def call(self, x, training=None):
                if training:
                    self.mean.assign(self.mean + keras.ops.mean(x))
                return super().call(x, training=training)

        def over(shape, *layers):
            return keras.Sequential([keras.Input(shape), *layers, L.Flatten(), L.Dense(3)])
        sequence = keras.Input((5, 4))
        models = [
            (over((6,), Guarded()), (6,)),
            (over((6,), L.Dropout(0.05), Guarded()), (6,)),
            (over((6,), Own()), (6,)),
            (over((6,), L.GaussianNoise(0.5)), (6,)),
            (over((5, 4), L.RNN(L.LSTMCell(3, dropout=0.5))), (5, 4)),
            (keras.Model(sequence, L.Dense(3)(L.Flatten()(L.Attention(dropout=0.5)([sequence, sequence])))), (5, 4)),
        ]
        for model, shape in models:
            given = np.random.default_rng(1).normal(size=(6, *shape)).astype(np.float32).repeat(40, axis=0)
            found = mc_dropout(model, given, 10, outputs="logits", seed=2)[0].astype(float)
            expected = np.stack([numbers_of(model(given, training=True)) for _ in range(10)], 1)
            expected = np.exp(expected) / np.exp(expected).sum(axis=2, keepdims=True)
            found, expected = (values.reshape(6, 400, 3) for values in (found, expected))
            error = np.sqrt((found.var(axis=1) + expected.var(axis=1)) / 400)
            assert (abs(found.mean(axis=1) - expected.mean(axis=1)) < 6 * error).all(), model.layers
            spreads = [(v - v.mean(axis=1, keepdims=True)) ** 2 for v in (found, expected)]
            error = np.sqrt(sum(spread.var(axis=1) for spread in spreads) / 400)
            assert (abs(spreads[0].mean(axis=1) - spreads[1].mean(axis=1)) < 6 * error).all(), model.layers
        raises(DropoutError, "updates variables of its own and drops units",
               lambda: mc_dropout(over((6,), Both()), np.ones((4, 6)), outputs="logits"))
        # images that are turned over when the model trains are not
        flipped = keras.Sequential([keras.Input((4, 4, 1)), L.RandomFlip(), L.Flatten(), L.Dropout(0.5), L.Dense(3)])
        plain = keras.Sequential(flipped.layers[1:])
        given = np.random.default_rng(1).normal(size=(6, 4, 4, 1)).astype(np.float32)
        given = given.repeat(200, axis=0)
        one, other = (mc_dropout(model, given, 10, outputs="logits")[1].reshape(6, 200, 3).mean(axis=1)
                      for model in (flipped, plain))
        assert abs(one - other).max() < 6 * 0.5 * np.sqrt(2 / 2000)
    """)


def test_several_inputs(keras_process):
    keras_process("""
        one, other = keras.Input((5,), name="one"), keras.Input((5,), name="other")
        merged = keras.layers.Dropout(0.5)(keras.layers.Add()([one, other]))
        model = keras.Model([one, other], keras.layers.Dense(3, activation="softmax")(merged))
        samples = mc_dropout(model, [inputs, 2 * inputs], 4, batch_size=7)[0]
        assert samples.shape == (30, 4, 3)
        named = mc_dropout(model, {"one": inputs, "other": 2 * inputs}, 4, batch_size=7)[0]
        np.testing.assert_array_equal(samples, named)
        raises(ValueError, "[29, 30]", lambda: mc_dropout(model, [inputs, inputs[1:]], 4))
    """)


def test_mistakes_are_named(keras_process):
    keras_process("""
        good = classifier(MonteCarloDropout(0.5))
        raises(DropoutError, "identical passes", lambda: mc_dropout(classifier(keras.layers.Dropout(0.0)), inputs))
        logits = classifier(MonteCarloDropout(0.5), end=None)
        raises(ValueError, 'pass outputs="logits"', lambda: mc_dropout(logits, inputs))
        raises(ValueError, "got 1: one pass", lambda: mc_dropout(good, inputs, 1))
        raises(ValueError, "got 'odds'", lambda: mc_dropout(good, inputs, outputs="odds"))
        raises(ValueError, "batch_size", lambda: mc_dropout(good, inputs, batch_size=0))
        raises(ValueError, "at least one record", lambda: mc_dropout(good, inputs[:0]))
        for wrong, value in (
            (inputs.tolist(), str(float(inputs[0, 0]))),
            ([inputs, inputs[0].tolist()], str(float(inputs[0, 0]))),
            ({"a": 3}, "3"),
            (None, "None"),
        ):
            words = f"got {value} where an array is expected: convert nested lists by numpy.asarray"
            raises(ValueError, words, lambda wrong=wrong: mc_dropout(good, wrong))
        raises(DropoutError, "not finite", lambda: mc_dropout(good, inputs * np.nan))
        images = keras.Sequential([keras.Input((5, 5)), keras.layers.Dropout(0.5)])
        raises(ValueError, "it returned (30, 5, 5)", lambda: mc_dropout(images, np.zeros((30, 5, 5))))
        assert "call" not in vars(good.layers[1])
        unbuilt = keras.Sequential([MonteCarloDropout(0.5), keras.layers.Dense(3, activation="softmax")])
        raises(DropoutError, "no weights yet: call it once", lambda: mc_dropout(unbuilt, inputs))
    """)


def test_layers_that_update_trained_variables_or_that_the_first_records_do_not_reach(keras_process):
    keras_process("""
        layers = keras.layers
        model = classifier(layers.SpectralNormalization(layers.Dense(4)), layers.Dropout(0.5))
        before = [numbers(v) for v in model.variables]
        mc_dropout(model, inputs, 3)
        for was, now in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(was, numbers(now))

        class Some(layers.BatchNormalization):
            def call(self, x, training=False):
                return super().call(x, training=training) if len(x) > 5 else x

        model = classifier(Some(name="norm"), layers.Dropout(0.5))
        raises(DropoutError, "norm updates variables of its own for some records", lambda: mc_dropout(model, inputs))
    """)


@pytest.mark.parametrize("backend", ["numpy", "tensorflow"])
def test_another_backend_is_refused(fresh_process, backend):
    printed = fresh_process(
        """
        try:
            import alhelpers.uncertainty.keras
        except ImportError as error:
            print(error)
        """,
        backend=backend,
    )
    assert "set KERAS_BACKEND=torch in the environment" in printed


def test_without_keras_the_error_names_the_way_out_and_no_other_module_imports_it(fresh_process):
    printed = fresh_process(
        """
        import sys
        import alhelpers.uncertainty, alhelpers.learners, alhelpers.scores, alhelpers.mining
        assert "keras" not in sys.modules
        sys.modules["keras"] = None  # as if it were not installed
        try:
            import alhelpers.uncertainty.keras
        except ImportError as error:
            print(error)
        """,
    )
    assert 'pip install "alhelpers[keras]"' in printed
