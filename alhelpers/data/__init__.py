"""Data sets, and how to split them into subsets.

The kit's small images as arrays, and as folders that the SDK uploads; :mod:`alhelpers.data.splitting` divides items
into subsets.
"""

from alhelpers.data.arrays import ArrayDataset, ImageSet
from alhelpers.data.sets import (
    DIGIT_TEST_IMAGES,
    IDX_FILES,
    NAMES,
    load,
    photo_patches,
    write_folder,
)
from alhelpers.files import cache_folder, data_folder

__all__ = [
    "DIGIT_TEST_IMAGES",
    "IDX_FILES",
    "NAMES",
    "ArrayDataset",
    "ImageSet",
    "cache_folder",
    "data_folder",
    "load",
    "photo_patches",
    "write_folder",
]
