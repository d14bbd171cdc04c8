"""The settings of `./run lab`: nothing is asked, nothing comes from the network, and only changes mark a file."""

from typing import Any

from ipykernel.ipkernel import IPythonKernel
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class Contents(AsyncLargeFileManager):
    """Names the kernel of each notebook in full.

    JupyterLab writes the names and the version of a kernel into a notebook when it has started. Were they not there
    before, every notebook would be marked as changed as soon as it is opened.
    """

    async def get(self, path: str, content: bool = True, type: str | None = None, **options: Any) -> Any:
        """Read a file or folder."""
        model = await super().get(path, content, type, **options)
        if content and model["type"] == "notebook":
            metadata = model["content"]["metadata"]
            spec = metadata.get("kernelspec", {})
            if spec.get("name") == "python3":
                spec["display_name"] = self.parent.kernel_spec_manager.get_kernel_spec("python3").display_name
                metadata["language_info"] = dict(IPythonKernel.language_info)
        return model


c = get_config()  # noqa: F821
c.ServerApp.contents_manager_class = Contents
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
