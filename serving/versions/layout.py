"""Which versions of a model lie under a model base, by the names that TF Serving looks for."""

from pathlib import Path

from components.runtime.errors import InputError


def numbered_folders(base: Path) -> dict[int, Path]:
    """Find every folder with an integer for its name, complete or not, in ascending order."""
    if not base.is_dir():
        return {}
    # `isdecimal` alone would take other scripts' digits.
    numbers = {
        int(path.name): path
        for path in base.iterdir()
        if path.name.isascii() and path.name.isdecimal() and path.is_dir()
    }
    return dict(sorted(numbers.items()))


def version_folders(base: Path) -> dict[int, Path]:
    """Find the complete versions under a model base: the numbered folders that hold a `saved_model.pb`."""
    return {n: path for n, path in numbered_folders(base).items() if (path / "saved_model.pb").is_file()}


def model_base(folder: Path, model: str) -> Path:
    """Take the folder that holds the version folders, or one that holds it under the model's name.

    Raises:
        InputError: There is no version in either place.
    """
    for base in (folder, folder / model):
        if version_folders(base):
            return base
    raise InputError(
        f"{folder}: no model version here; expected a folder named by an integer that holds saved_model.pb, "
        f"such as {folder}/1/saved_model.pb; run the training pipeline to export one"
    )
