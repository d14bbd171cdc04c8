"""The packages of the wheel: also two folders that a clone has at its top, beside the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["alhelpers*"]), "alhelpers.pipeline_configs", "alhelpers.shipped_data"],
    package_dir={"alhelpers.pipeline_configs": "pipeline_configs", "alhelpers.shipped_data": "data"},
    package_data={
        "alhelpers.notebook": ["*.js"],
        "alhelpers.pipeline_configs": ["README.md", "*.json", "schemas/*.json"],
        "alhelpers.platform": ["*.md"],
        "alhelpers.platform.page": ["style.css", "*.js", "templates/*.html"],
        "alhelpers.shipped_data": ["README.md", "*.npz", "*.parquet"],
    },
)
