"""What a training run is made of, as data: the published presets, and every switch between them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from components.ct.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """How far each slice is varied at random; 0 leaves a variation out.

    Attributes:
        flip_columns: mirror left and right in half of the slices. The lungs are nearly symmetric.
        flip_rows: mirror front and back in half of the slices.
        rotation_deg: largest rotation to either side.
        scale: largest enlargement, as a share: 0.25 draws a factor from 1/1.25 to 1.25.
        stretch: the same, of the columns against the rows.
        shift: largest displacement, as a share of the slice's edge.
        brightness: largest offset, as a share of the window: what another window level does.
        contrast: largest stretch of the grey values about the window's middle, as for `scale`.
        gamma: largest exponent on grey values from 0 to 1, as for `scale`.
        noise: largest standard deviation of Gaussian noise, as a share of the window.
    """

    flip_columns: bool = True
    flip_rows: bool = False
    rotation_deg: float = 20.0
    scale: float = 0.25
    stretch: float = 0.1
    shift: float = 0.08
    brightness: float = 0.08
    contrast: float = 0.25
    gamma: float = 0.4
    noise: float = 0.03


@dataclass(frozen=True)
class Recipe:
    """Network, loss, sampling and optimizer of a training run.

    Attributes:
        window_hu: lower and upper end of the Hounsfield window that the network scales to 0 to 1; None feeds
            raw values.
        window_top: what the window's upper end becomes: 1, or 255 as in an 8-bit picture.
        filters: of each level of the U-Net, from the full grid down.
        batch_norm: normalise after each convolution.
        focal_weight: weight of the binary focal cross-entropy.
        focal_alpha: weight of lesion cells in it, 1 minus that of the others; None weighs all alike.
        focal_gamma: how much it forgives what is nearly right; 0 is plain cross-entropy (Lin et al., 2017).
        dice_weight: weight of the soft Dice loss.
        dice_per: one Dice for each `slice`, or one for the `batch`.
        augmentation: None trains on the slices as they are.
        foreground_share: share of the slices that are drawn from those with lesion alone; the rest is drawn
            from all. nnU-Net uses 0.33.
        slices_per_epoch: an epoch's length whatever the cohort's size, so that its time is known beforehand;
            None passes through the training slices once.
        batch_size: slices in a training step.
        epochs: length of the run.
        learning_rate: at the start.
        cosine_decay: let it fall to 0 along a half cosine by the end; otherwise it stays.
        weight_decay: AdamW's; 0 is Adam.
        mixed_precision: compute in 16 bits where the machine does so natively; otherwise in float32.
        flip_averaging: let the trained network answer with the mean over a slice and its mirror image, for twice
            the time; docs/ablation.md has what it gains.
    """

    window_hu: tuple[float, float] | None = (-1250.0, 250.0)
    window_top: float = 1.0
    filters: tuple[int, ...] = (16, 32, 64, 128, 256)
    batch_norm: bool = True
    focal_weight: float = 0.5
    focal_alpha: float | None = None
    focal_gamma: float = 2.0
    dice_weight: float = 0.5
    dice_per: str = "slice"
    augmentation: Augmentation | None = Augmentation()
    foreground_share: float = 0.33
    slices_per_epoch: int | None = 256
    batch_size: int = 8
    epochs: int = 30
    learning_rate: float = 2e-3
    cosine_decay: bool = True
    weight_decay: float = 1e-4
    mixed_precision: bool = True
    flip_averaging: bool = False


# The two published experiments of the project's predecessor, as it ran them: the values of 8-bit files as they are,
# Adam as it comes.
_SEED_FOCAL = Recipe(
    window_top=255.0,
    batch_norm=False,
    focal_weight=1.0,
    focal_alpha=0.8,
    dice_weight=0.0,
    augmentation=None,
    foreground_share=0.0,
    slices_per_epoch=None,
    epochs=10,
    learning_rate=1e-3,
    cosine_decay=False,
    weight_decay=0.0,
    mixed_precision=False,
)
_SEED_FOCAL_DICE = Recipe(
    window_top=255.0,
    batch_norm=False,
    focal_weight=0.8,
    focal_alpha=0.8,
    dice_weight=0.2,
    dice_per="batch",
    augmentation=Augmentation(brightness=0, contrast=0, gamma=0, noise=0),
    foreground_share=0.0,
    slices_per_epoch=None,
    epochs=10,
    learning_rate=1e-3,
    cosine_decay=False,
    weight_decay=0.0,
    mixed_precision=False,
)

PRESETS = {"default": Recipe(), "seed-focal": _SEED_FOCAL, "seed-focal-dice": _SEED_FOCAL_DICE}


def preset_recipe(name: str) -> Recipe:
    """The preset of that name; `InputError` lists the names there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise InputError(f"preset {name!r}: no such recipe; expected one of {', '.join(PRESETS)}") from None


def changed_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values of some settings, as JSON gives them.

    Args:
        recipe: such as a preset.
        changes: values by the names of `Recipe`; `augmentation` is null, or values by the names of `Augmentation`.

    Raises:
        InputError: no such setting, or no value for it.
    """
    values = _known(Recipe, changes)
    if isinstance(values.get("augmentation"), Mapping):
        values["augmentation"] = replace(
            recipe.augmentation or Augmentation(), **_known(Augmentation, values["augmentation"])
        )
    for name in ("filters", "window_hu"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    return replace(recipe, **values)


def _known(settings: type, changes: Mapping[str, Any]) -> dict[str, Any]:
    names = {setting.name for setting in fields(settings)}
    unknown = sorted(set(changes) - names)
    if unknown:
        raise InputError(f"recipe setting {', '.join(unknown)}: not known; expected {', '.join(sorted(names))}")
    for name, value in changes.items():
        default = getattr(settings(), name)
        if isinstance(default, int | float) and not isinstance(value, int | float):
            raise InputError(f"recipe setting {name} is {value!r}; expected a number, such as {default}")
    return dict(changes)
