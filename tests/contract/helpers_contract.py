"""What several contract tests share."""

import io

import pytest
from PIL import Image

#: An id that nothing has.
MISSING = "0" * 24

MANIFEST = {
    "name": "tiny",
    "displayName": "Tiny",
    "version": "1.0.0",
    "scope": "project",
    "codebase": {"type": "git", "gitUrl": "https://example.invalid/tiny.git", "gitTag": "main"},
    "components": {
        "modules": [{"name": "adapter", "className": "Tiny", "entryPoint": "tiny.py", "functions": []}],
        "models": [
            {
                "name": "tiny-base",
                "moduleName": "adapter",
                "status": "pre-trained",
                "inputType": "image",
                "outputType": "class",
                "labels": ["dark", "light"],
                "configuration": {"batch_size": 4},
            }
        ],
    },
}


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def install(dl, project, **changes):
    """Publish and install the tiny dpk under a name of the project's own."""
    manifest = {**MANIFEST, "name": f"tiny-{project.id}", **changes}
    dpk = project.dpks.publish(dpk=dl.Dpk.from_json(manifest, client_api=dl.client_api, project=project))
    return project.apps.install(dpk=dpk)


def send(dl, method, path, body=None):
    """Send a request that must succeed, and return its answer."""
    success, answer = dl.client_api.gen_request(method, path, json_req=body)
    dl.client_api.check_response(success, answer)
    return answer.json()


def get_json(dl, path):
    return send(dl, "get", path)


def make_service(dl, project, package_id, name, **fields):
    body = {"name": name, "projectId": project.id, "packageId": package_id, **fields}
    return project.services.get(service_id=send(dl, "post", "/services", body)["id"])


def refused(dl, method, path, body, message="", status=400):
    """Check that the platform refuses a request, and that this is in its message."""
    success, answer = dl.client_api.gen_request(method, path, json_req=body)
    assert not success and answer.status_code == status, answer.text
    assert message in answer.json()["message"]


def fails(error, match, call, *args, **options):
    """Check that a call raises this error with a message that matches."""
    with pytest.raises(error, match=match):
        call(*args, **options)


def written(entity):
    """What the SDK writes of an annotation: attributes that it has not are absent on the platform."""
    return {key: value for key, value in entity.to_json().items() if (key, value) != ("attributes", None)}


def not_found(dl, *calls):
    for call in calls:
        with pytest.raises(dl.exceptions.NotFound):
            call()


def annotate(dl, item, *definitions, **options):
    """Upload an annotation for each definition."""
    new = dl.Annotation.new
    return item.annotations.upload(
        [new(annotation_definition=each, item=item, **options) for each in definitions]
    )


def classify(dl, item, *labels):
    """Upload a classification for each label."""
    return annotate(dl, item, *(dl.Classification(label) for label in labels))


def paths(dataset):
    """The paths of a dataset's items, without hidden ones."""
    return sorted(item.filename for item in dataset.items.list().all())


def tagged(dl, subset):
    """The filter of the items of one subset."""
    return dl.Filters(field=f"metadata.system.tags.{subset}", values=True)
