"""The coverage table names what the SDK has, no more and no less, and its numbers are its rows'."""

import re

import sdk_coverage


def test_the_table_names_the_methods_of_the_sdk(dl):
    found = sdk_coverage.read(sdk_coverage.TABLE.read_text())
    known = {name: set(methods) for name, methods in sdk_coverage.methods().items()}
    assert {name: set(rows) for name, rows in found.items()} == known, "run ./run coverage"
    for name, methods in sdk_coverage.SCENARIOS.items():
        assert set(methods.split()) <= known[name], name


def test_the_numbers_are_those_of_the_rows(dl):
    text = sdk_coverage.TABLE.read_text()
    found = sdk_coverage.read(text)
    called = {f"{name}.{method}" for name, rows in found.items() for method, yes in rows.items() if yes}
    assert text == sdk_coverage.table(called, dl.__version__)
    assert re.search(rf"{len(called)} of {sum(map(len, found.values()))} methods", text)


def test_only_what_is_called_from_outside_and_returns_counts(monkeypatch):
    class Things:
        __module__ = "dtlpy.things"

        def outer(self):
            return self.inner()

        def inner(self):
            return 1

        def fails(self):
            raise ValueError

        @staticmethod
        def fixed():
            return 2

        def _private(self):
            pass

    monkeypatch.setattr(sdk_coverage, "repositories", lambda: {"Things": Things})
    recorder = sdk_coverage.Recorder()
    recorder.install()
    things = Things()
    assert things.outer() == 1 and Things.fixed() == 2
    try:
        things.fails()
    except ValueError:
        pass
    assert recorder.called == {"Things.outer", "Things.fixed"}
    assert sdk_coverage.methods() == {"Things": ["fails", "fixed", "inner", "outer"]}
