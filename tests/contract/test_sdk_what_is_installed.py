"""What installing and deleting apps, pipelines and models does to services and triggers."""

import pytest
from helpers_contract import fails, not_found
from helpers_execution import ended, publish, until

TRIGGER = {
    "name": "each new image",
    "active": True,
    "type": "Event",
    "namespace": "services.of-the-app",
    "spec": {
        "filter": {"metadata.system.mimetype": "image/*"},
        "resource": "Item",
        "actions": ["Created"],
        "executionMode": "Once",
        "operation": {"type": "function", "functionName": "run"},
    },
}


@pytest.fixture
def publish_triggered(dl, project, tmp_path):
    """Publish a dpk with a service and a trigger that starts one of its functions."""
    published = publish(project, "functions", tmp_path, name=f"triggered-{project.id}")
    manifest = published.to_json()

    def publish_again(version, trigger):
        components = manifest["components"] | {
            "services": [{"name": "of-the-app", "moduleName": "functions"}],
            "triggers": [trigger],
        }
        document = manifest | {"version": version, "components": components}
        return project.dpks.publish(dl.Dpk.from_json(document, client_api=dl.client_api, project=project))

    return publish_again


def test_an_app_brings_its_triggers(dl, project, dataset, publish_triggered, fill):
    app = project.apps.install(publish_triggered("2.0.0", TRIGGER))
    service = project.services.get(service_name="of-the-app")
    (trigger,) = service.triggers.list().items
    assert (trigger.name, trigger.active, trigger.function_name) == ("each new image", True, "run")
    assert trigger.filters == TRIGGER["spec"]["filter"]
    dataset.items.upload(__file__, raise_on_error=True)
    (item,) = fill(1)
    until(lambda: service.executions.list().items_count)
    (execution,) = service.executions.list().items
    assert execution.trigger_id == trigger.id and ended(dl, execution).output == item.id

    changed = TRIGGER | {"spec": TRIGGER["spec"] | {"actions": ["Created", "Updated"]}}
    app.dpk_version = publish_triggered("3.0.0", changed).version
    app.update()
    (renewed,) = service.triggers.list().items
    assert (renewed.id, renewed.actions) == (trigger.id, ["Created", "Updated"])
    app.uninstall()
    assert project.triggers.list().items_count == 0 and project.services.list().items_count == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"namespace": "services.another"}, "not a service of the app"),
        ({"spec": {**TRIGGER["spec"], "resource": "Planet"}}, "'Planet'"),
        ({"spec": {**TRIGGER["spec"], "operation": {"type": "function"}}}, "'functionName'"),
        ({"spec": None}, "JSON object"),
    ],
)
def test_a_wrong_trigger_installs_nothing(dl, project, publish_triggered, changes, message):
    dpk = publish_triggered("2.0.0", TRIGGER | changes)
    fails(dl.exceptions.FailedDependency, message, project.apps.install, dpk)
    assert project.apps.list().items_count == 0 and project.services.list().items_count == 0


def test_a_code_node_names_its_service(dl, project, item):
    def note(item, word):
        item.metadata["user"] = {"word": word}
        return item.update()

    pipeline = project.pipelines.create(name="with code")
    pipeline.nodes.add(dl.CodeNode("note", project.id, project.name, note))
    pipeline = pipeline.update().install()
    service = dl.services.get(service_name=pipeline.nodes[0].namespace.service_name)
    inputs = {"item": item.id, "word": "yes"}
    execution = service.execute(function_name="note", execution_input=inputs, project_id=project.id)
    assert ended(dl, execution).latest_status["status"] == "success"
    assert dl.items.get(item_id=item.id).metadata["user"] == {"word": "yes"}

    pipeline.delete()
    not_found(dl, lambda: dl.services.get(service_id=service.id))
    assert dl.executions.get(execution_id=execution.id).latest_status["status"] == "success"


def test_a_deleted_model_takes_its_services_along(dl, project, tmp_path):
    project.apps.install(publish(project, "brightness", tmp_path, name=f"brightness-{project.id}"))
    model = project.models.get(model_name="brightness")
    models = [model.clone(model_name=name, status="trained") for name in ("kept", "gone")]
    kept, gone = (each.deploy() for each in models)
    models[1].delete()
    assert [service.id for service in project.services.list().items] == [kept.id] != [gone.id]
