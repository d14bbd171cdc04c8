"""The pipeline nodes of the active-learning flow, each in one file that can be deployed as it stands."""

from alhelpers.nodes.compare_models import ModelComparer
from alhelpers.nodes.context import node_context
from alhelpers.nodes.create_new_model import ModelCreator
from alhelpers.nodes.data_split import DataSplitter
from alhelpers.nodes.mine_items import ItemMiner

__all__ = ["DataSplitter", "ItemMiner", "ModelComparer", "ModelCreator", "node_context"]
