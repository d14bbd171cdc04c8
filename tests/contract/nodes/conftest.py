"""What the nodes' contract tests share: a project with a few images and an installed app with a model."""

import uuid

import pytest
from mining_samples import CLASSES, names, predict_all
from node_samples import upload


@pytest.fixture
def progress(dl):
    """A progress that keeps what the platform would be told."""

    class Recording(dl.Progress):
        action = message = None

        def update(self, status=None, progress=0, message=None, output=None, duration=None, action=None):
            self.action, self.message = action, message

    return Recording()


@pytest.fixture(scope="module")
def shared_project(dl):
    """A project that the tests of one file share: installing an app takes longer than a test."""
    return dl.projects.create(f"nodes-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def make_dataset(dl, shared_project):
    """Make a dataset of images with a name of its own."""

    def make(names=(), labels=("a", "b"), metadata=None):
        dataset = shared_project.datasets.create(f"data-{uuid.uuid4().hex[:8]}")
        dataset.add_labels(list(labels))
        return dataset, upload(dataset, names, metadata) if names else {}

    return make


@pytest.fixture(scope="module")
def app(dl, shared_project, tmp_path_factory):
    """Install an app with a classifier and a detector; nothing of it ever runs."""
    codebase = tmp_path_factory.mktemp("codebase")
    (codebase / "adapter.py").write_text("class Adapter:\n    pass\n")

    def component(name, output_type):
        return {
            "name": name,
            "moduleName": "adapter",
            "scope": "project",
            "status": "trained",
            "outputType": output_type,
            "inputType": "image",
            "labels": ["a", "b"],
            "configuration": {"epochs": 3, "nested": {"rate": 0.1}, "id_to_label_map": {"0": "b", "1": "a"}},
            "metadata": {"system": {}},
        }

    manifest = {
        "name": f"nodes-{uuid.uuid4().hex[:8]}",
        "displayName": f"Nodes {uuid.uuid4().hex[:8]}",
        "version": "1.0.0",
        "scope": "project",
        "attributes": {"Category": "Model"},
        "components": {
            "modules": [
                {
                    "name": "adapter",
                    "className": "Adapter",
                    "entryPoint": "adapter.py",
                    "computeConfig": "default",
                    "functions": [],
                }
            ],
            "computeConfigs": [{"name": "default", "runtime": {"podType": "regular-xs"}}],
            "models": [component("classifier", "class"), component("detector", "box")],
        },
    }
    dpk = dl.Dpk.from_json(manifest, client_api=dl.client_api, project=shared_project)
    dpk = shared_project.dpks.publish(dpk=dpk, local_path=str(codebase))
    return shared_project.apps.install(dpk=dpk)


@pytest.fixture(scope="module")
def make_model(dl, shared_project, app):
    """Make a model with a name of its own."""

    def make(name=None, output_type="class", **more):
        component = {"class": "classifier", "box": "detector"}[output_type]
        return shared_project.models.create(
            model_name=name or f"model-{uuid.uuid4().hex[:8]}",
            app=app,
            dpk_model_name=component,
            output_type=output_type,
            **more,
        )

    return make


@pytest.fixture(scope="module")
def make_pool(dl, make_dataset, make_model):
    """Make a dataset of predicted items, its model, and the records that its predictions are."""

    def make(count, metadata=None, **options):
        dataset, items = make_dataset(names(count), CLASSES, metadata)
        model = make_model()
        items = [items[name] for name in sorted(items)]
        return dataset, items, model, predict_all(dl, items, model, **options)

    return make
