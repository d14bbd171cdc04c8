"""The context of a pipeline node for a notebook: nodes then run as they do inside a pipeline."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import dtlpy as dl

_NODE_ID = "notebook-node"


def node_context(project: dl.Project, config: Mapping[str, Any], name: str = "notebook-node") -> dl.Context:
    """Return a `dl.Context` whose node has the given configuration.

    The platform stores a pipeline of this one node, never installed, and the context fetches it as it does in
    a running pipeline. A pipeline of that name is used again, with the new configuration.

    Parameters
    ----------
    project : dl.Project
        Where the pipeline is kept.
    config : mapping
        The node's configuration, as the pipeline editor writes it to ``metadata['customNodeConfig']``.
    name : str
        The pipeline's name.

    Returns
    -------
    dl.Context
        The context to pass to a node's function.

    Raises
    ------
    ValueError
        If a pipeline of that name has other nodes: a notebook must not change it.

    Examples
    --------
    >>> context = node_context(project, {"groups": [{"name": "train", "distribution": 80},
    ...                                             {"name": "test", "distribution": 20}],
    ...                                  "itemMetadata": True})  # doctest: +SKIP
    >>> item = DataSplitter.data_split(item, progress=dl.Progress(), context=context)  # doctest: +SKIP
    """
    metadata = {"customNodeConfig": copy.deepcopy(dict(config)), "position": {"x": 0, "y": 0, "z": 0}}
    try:
        pipeline = project.pipelines.get(pipeline_name=name)
    except dl.exceptions.NotFound:
        pipeline = project.pipelines.create(name=name, pipeline_json=_one_node(project, metadata))
    else:
        if [node.node_id for node in pipeline.nodes] != [_NODE_ID]:
            raise ValueError(
                f"pipeline {name!r} of project {project.name!r} has other nodes: choose another name"
            )
        # The SDK has read the position, too: it is kept.
        pipeline.nodes[0].metadata["customNodeConfig"] = metadata["customNodeConfig"]
        pipeline = pipeline.update()
    context = dl.Context(
        project=project,
        execution_dict={"pipeline": {"id": pipeline.id, "nodeId": pipeline.nodes[0].node_id}},
        sdk=dl,
    )
    _fetch_node(context)
    return context


def _fetch_node(context: dl.Context) -> None:
    """Let the context fetch its node now, without the SDK's warning that the project is not its default one."""
    logger = logging.getLogger("dtlpy")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        _ = context.node
    finally:
        logger.setLevel(level)


def _one_node(project: dl.Project, metadata: dict[str, Any]) -> dict[str, Any]:
    node = {
        "id": _NODE_ID,
        "name": "node",
        "type": "custom",
        "inputs": [],
        "outputs": [],
        "metadata": metadata,
        "namespace": {"functionName": "run", "projectName": project.name},
        "projectId": project.id,
    }
    return {
        "projectId": project.id,
        "nodes": [node],
        "connections": [],
        "startNodes": [{"nodeId": _NODE_ID, "type": "root", "id": _NODE_ID}],
        "variables": [],
    }
