"""Data sets, and how to split them into subsets.

Your own images by :func:`folder`, with boxes and masks by :func:`coco`; the kit's small ones as arrays, and as folders
that the SDK uploads; :func:`scenes` are drawn, with boxes and masks;
:mod:`alhelpers.data.splitting` divides items into subsets.
"""

from alhelpers.data.arrays import ArrayDataset, ImageSet, arrays
from alhelpers.data.coco import CocoDataset, coco
from alhelpers.data.coco_results import write_coco_results
from alhelpers.data.coco_writer import write_coco
from alhelpers.data.folder import folder
from alhelpers.data.image_files import FolderDataset, Problem
from alhelpers.data.loader import TorchDataset, loader
from alhelpers.data.masks import decode_mask, encode_mask
from alhelpers.data.object_set import ObjectSet
from alhelpers.data.objects import Objects
from alhelpers.data.scenes import scenes
from alhelpers.data.sets import (
    DIGIT_TEST_IMAGES,
    IDX_FILES,
    NAMES,
    load,
    photo_patches,
    write_folder,
)
from alhelpers.data.shapes import write_shapes
from alhelpers.data.table import TableDataset, table
from alhelpers.files import cache_folder, data_folder

__all__ = [
    "DIGIT_TEST_IMAGES",
    "IDX_FILES",
    "NAMES",
    "ArrayDataset",
    "CocoDataset",
    "FolderDataset",
    "ImageSet",
    "ObjectSet",
    "Objects",
    "Problem",
    "TableDataset",
    "TorchDataset",
    "arrays",
    "cache_folder",
    "coco",
    "data_folder",
    "decode_mask",
    "encode_mask",
    "folder",
    "load",
    "loader",
    "photo_patches",
    "scenes",
    "table",
    "write_coco",
    "write_coco_results",
    "write_folder",
    "write_shapes",
]
