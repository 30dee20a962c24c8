"""A served model's version folders: layout, manifest, signature, labels, publication, and the SavedModel loader."""
