"""Pipelines as stored documents, and the context that nodes run in."""

import pytest


def template():
    return {
        "name": "flow",
        "nodes": [
            {
                "id": "node-1",
                "name": "Split",
                "type": "code",
                "inputs": [],
                "outputs": [],
                "namespace": {"functionName": "f", "projectName": "p", "serviceName": "s", "moduleName": "m"},
                "metadata": {
                    "position": {"x": 0, "y": 0},
                    "customNodeConfig": {"name": "Split", "groups": []},
                },
                "config": {"package": {}},
            }
        ],
        "connections": [],
        "startNodes": [{"nodeId": "node-1", "type": "root", "id": "start"}],
        "variables": [{"name": "best_model", "type": "Model", "value": "m"}],
    }


@pytest.fixture
def pipeline(project):
    return project.pipelines.create(pipeline_json=template())


def test_create_get_list(dl, project, pipeline):
    assert pipeline.status == "Created"
    assert dl.pipelines.get(pipeline_id=pipeline.id).name == "flow"
    assert project.pipelines.get(pipeline_name="flow").id == pipeline.id
    assert project.pipelines.list().items_count == 1
    with pytest.raises(dl.exceptions.BadRequest, match="'flow' exists in project"):
        project.pipelines.create(pipeline_json=template())
    pipeline.delete()
    with pytest.raises(dl.exceptions.NotFound):
        dl.pipelines.get(pipeline_id=pipeline.id)


def test_variables_and_changes(dl, project, pipeline):
    (variable,) = pipeline.variables
    assert variable.id and variable.reference == pipeline.id
    variable.value = "other"
    pipeline.variables.append(
        dl.entities.Variable({"name": "config", "type": "Json", "value": {"epochs": 2}})
    )
    pipeline.nodes[0].metadata["customNodeConfig"]["groups"] = [{"name": "train", "distribution": 80}]
    pipeline.update()
    read = dl.pipelines.get(pipeline_id=pipeline.id)
    assert {each.name: each.value for each in read.variables} == {
        "best_model": "other",
        "config": {"epochs": 2},
    }
    assert read.variables[0].id == variable.id
    assert read.nodes[0].metadata["customNodeConfig"]["groups"][0]["distribution"] == 80
    assert len(read.nodes) == 1


def test_the_context_of_a_node(dl, pipeline):
    context = dl.Context(execution_dict={"pipeline": {"id": pipeline.id, "nodeId": "node-1"}}, sdk=dl)
    assert context.pipeline.name == "flow"
    assert context.node.metadata["customNodeConfig"]["name"] == "Split"
