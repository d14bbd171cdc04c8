"""What several contract tests share."""

import io

from PIL import Image

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
