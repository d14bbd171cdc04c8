"""Items: files in datasets, with their metadata and bytes."""
