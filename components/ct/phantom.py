"""A synthetic 3-D chest-CT cohort with the quirks of the COVID-19 CT data set (Zenodo record 3757476).

Anatomy is a set of signed distances in the patient's own millimetres, so that two scans of one patient show
the same ribs, heart and vessels on two different voxel grids. What a distance is below one pixel becomes a
partial volume. Each patient and each case has its own random stream: the same seed gives the same bytes,
and a cohort of N cases is the beginning of every longer one.

No threshold finds the lesions: vessels, dependent density, the chest wall and blurred lung borders share
their HU. Over 12 cases of seed 0 the best single threshold reaches a Dice of 0.10 (mean of cases and pooled
alike), and the best of all windows, -580 to -260 HU, 0.36 (mean) and 0.41 (pooled).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_array

from components.ct.atomic import written_whole
from components.ct.errors import InputError
from components.ct.grid import AIR_HU, volume_from_axial_slices
from components.ct.intensity import WINDOW_HU
from components.ct.volume import FileGrid, write_on_file_grid

Slices = NDArray[np.floating]  # float32 (z, rows, columns), see components.ct.grid

SLICE_SPACING_MM = (1.5, 3.0, 6.0, 1.0, 5.0, 2.0, 4.0)  # by case, in turn
ORIENTATIONS = ("LAS", "LPS", "LAS", "LAS", "LAS", "RAS", "LAS", "LAS", "LAS", "PSR", "LAS")
LESION_SHARE_OF_LUNG = (0.08, 0.20, 0.05, 0.12, 0.06, 0.45, 0.05, 0.15)  # by case, in turn
A_FEW_VOXELS = 4  # the index of the case that has hardly any lesion, as radiopaedia_29_86490_1 has
TWO_SCANS = (2, 3)  # the indices of one patient's two scans: 6 mm raw and 1 mm windowed slices


@dataclass(frozen=True)
class _Scan:
    """How one case was scanned: voxel centres in mm, x to the left, y to the back, z up from the lung base."""

    z: Slices  # (n, 1, 1)
    y: Slices  # (1, rows, 1)
    x: Slices  # (1, 1, columns)
    spacing_mm: tuple[float, float, float]  # z, rows, columns
    orientation: str
    windowed: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return self.z.size, self.y.size, self.x.size

    def inside(self, distance_mm: Slices) -> Slices:
        """Share of each voxel within a border, of which `distance_mm` is the signed distance."""
        return np.clip(distance_mm / self.spacing_mm[2] + 0.5, 0, 1)


@dataclass(frozen=True)
class _Body:
    """One patient's measures, in mm and HU."""

    half_width: float
    half_depth: float
    fat: float
    lung_height: float
    heart: float
    blood_hu: float  # 40 without contrast agent
    lung_hu: float
    fluid_y: float  # pleural fluid collects behind this plane
    entropy: tuple[int, int]  # the cohort's seed and the patient: what is random in the anatomy

    @classmethod
    def draw(cls, seed: int, patient: int) -> "_Body":
        """Draw the measures of one patient of a cohort."""
        rng = default_rng([seed, patient, 0])
        half_width = rng.uniform(148, 185)
        return cls(
            half_width=half_width,
            half_depth=half_width * rng.uniform(0.64, 0.72),
            fat=rng.uniform(6, 18),
            lung_height=rng.uniform(200, 250),
            heart=rng.uniform(0.9, 1.12),
            blood_hu=rng.choice([40, 42, 45, 170, 260]),
            lung_hu=rng.uniform(-890, -800),
            fluid_y=rng.choice([999, 999, 999, 999, 62]),
            entropy=(seed, patient),
        )


@dataclass(frozen=True)
class _Lungs:
    """Signed distances to the lungs' border (positive inside) and depth below the outer pleura, in mm."""

    border: Slices
    depth: Slices
    above_diaphragm: Slices


def write_cohort(folder: Path, cases: int, seed: int) -> None:
    """Write `cases` synthetic scans, their lesion masks and the table of patients.

    Writes `scans/phantom_001.nii.gz` …, `infection_masks/` with the same names, and `patients.csv`
    (`case_id,patient_id`). Scans are int16 HU or uint8 windowed, masks uint8 0/1. From 4 cases on, one
    patient has two scans; from 5 on, one case has a lesion of a few voxels.

    Raises:
        InputError: `cases` < 1, `seed` < 0, or `folder` already holds scans of another cohort.
    """
    if cases < 1 or seed < 0:
        raise InputError(f"phantom: cases={cases}, seed={seed}; expected at least 1 case and a seed from 0 on")
    names = [f"phantom_{index + 1:03d}" for index in range(cases)]
    for part in ("scans", "infection_masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        found = {path.name for path in (folder / part).iterdir() if not path.name.startswith(".")}
        if foreign := found - {f"{name}.nii.gz" for name in names}:
            raise InputError(f"{folder / part} holds {min(foreign)}, not of this cohort; name an empty folder")
    for index, name in enumerate(names):
        scan, stored, mask = _draw_case(index, seed)
        _write(folder / "scans" / f"{name}.nii.gz", stored, scan)
        _write(folder / "infection_masks" / f"{name}.nii.gz", mask, scan)
    rows = [f"{name},patient_{_patient(index) + 1:03d}\n" for index, name in enumerate(names)]
    with written_whole(folder / "patients.csv") as temporary:
        temporary.write_text("case_id,patient_id\n" + "".join(rows))


def _patient(index: int) -> int:
    return index if index < TWO_SCANS[1] else index - 1


def _write(path: Path, slices: NDArray, scan: _Scan) -> None:
    """Write (z, rows, columns) slices in the scan's own orientation; the same bytes for the same input."""
    voxels = volume_from_axial_slices(slices)
    dz, dy, dx = scan.spacing_mm
    affine = np.diag([dx, dy, dz, 1.0])
    affine[:3, 3] = -scan.x.max(), -scan.y.max(), scan.z.min()
    to_file = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(scan.orientation))
    shape = apply_orientation(voxels, to_file).shape
    write_on_file_grid(path, voxels, FileGrid(shape, affine @ inv_ornt_aff(to_file, voxels.shape)))


def _draw_case(index: int, seed: int) -> tuple[_Scan, NDArray, NDArray[np.uint8]]:
    """Scan one case: its voxel grid, the numbers a file would store, and the mask, as (z, rows, columns)."""
    body = _Body.draw(seed, _patient(index))
    rng = default_rng([seed, index, 1])
    scan = _draw_scan(rng, index, body)
    hu = _soft_tissue(scan, body)
    _add_bones(hu, scan, body)
    lungs = _lungs(scan, body)
    parenchyma = _parenchyma(scan, body, lungs, rng)
    share_of_lung = None if index == A_FEW_VOXELS else LESION_SHARE_OF_LUNG[index % len(LESION_SHARE_OF_LUNG)]
    mask = _add_lesions(parenchyma, scan, lungs, share_of_lung, rng)
    _add_trees(parenchyma, scan, body)
    hu += scan.inside(lungs.border) * (parenchyma - hu)
    _add_main_airways(hu, scan, body)
    _blur_by_motion(hu, lungs, rng)
    return scan, _acquire(hu, scan, rng), mask


def _draw_scan(rng: Generator, index: int, body: _Body) -> _Scan:
    """Choose matrix, field of view and slab. The pixel is 0.6 to 0.9 mm on a 512 matrix, larger on fewer."""
    columns = int(rng.choice([128, 144, 160, 176, 192]))
    oblong = index % 6 == 3  # the data set has one 630×401 volume among its 630×630
    rows = round(columns * 0.66) if oblong else columns
    field_mm = np.clip(2 * body.half_width * rng.uniform(1.08 if oblong else 1.0, 1.18), 310, 460)
    pixel_mm = round(float(field_mm) / columns, 4)
    dz_mm = SLICE_SPACING_MM[index % len(SLICE_SPACING_MM)]
    slices = int(rng.integers(28, 41)) if dz_mm < 3 else int(rng.integers(18, 37))
    half_slab = slices * dz_mm / 2
    middle = rng.uniform(0.3, 0.62) * body.lung_height
    middle = np.clip(middle, half_slab - 30, max(half_slab - 30, body.lung_height + 25 - half_slab))

    def axis(count: int, step_mm: float, centre_mm: float) -> Slices:
        return (centre_mm + (np.arange(count, dtype=np.float32) - (count - 1) / 2) * step_mm).astype(np.float32)

    return _Scan(
        z=axis(slices, dz_mm, middle)[:, None, None],
        y=axis(rows, pixel_mm, rng.uniform(-6, 12))[None, :, None],
        x=axis(columns, pixel_mm, rng.uniform(-6, 6))[None, None, :],
        spacing_mm=(dz_mm, pixel_mm, pixel_mm),
        orientation=ORIENTATIONS[index % len(ORIENTATIONS)],
        windowed=index % 2 == 1,
    )


def _noise(scan: _Scan, rng: Generator, length_mm: float) -> Slices:
    """Smooth noise of about unit variance: a cubic B-spline through a random lattice fixed to the patient."""
    shape = [int(extent_mm / length_mm) + 1 for extent_mm in (440, 520, 520)]
    field = 3 * rng.standard_normal(shape, dtype=np.float32)  # 3: the spline's weights shrink it to a third
    for centres, low_mm, nodes in zip((scan.z, scan.y, scan.x), (-80, -260, -260), shape, strict=True):
        position = (centres.ravel() - low_mm) / length_mm
        node = np.floor(position).astype(int)[:, None] + np.arange(-1, 3)
        away = np.abs(position[:, None] - node)
        weight = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6)
        ends = np.arange(0, node.size + 1, 4)
        # Sparse, not for size but because threaded matrix products round differently on other machines.
        spline = csr_array((weight.ravel(), node.ravel() % nodes, ends), (len(node), nodes), np.float32)
        flat = spline @ field.reshape(nodes, -1)
        field = np.moveaxis(flat.reshape(-1, *field.shape[1:]), 0, -1)
    return np.ascontiguousarray(field)


def _ellipse(scan: _Scan, x: float, y: float, half_x: float, half_y: float, power: float = 2) -> Slices:
    """Signed distance in mm, positive inside, about right near the border, of an upright (super)ellipse."""
    radius = np.abs((scan.x - x) / half_x) ** power + np.abs((scan.y - y) / half_y) ** power
    return ((1 - radius ** (1 / power)) * min(half_x, half_y)).astype(np.float32)


def _cavity(scan: _Scan, body: _Body) -> Slices:
    """Signed distance to the inside of the rib cage, narrower towards the neck."""
    half_x, half_y = body.half_width - body.fat - 19, body.half_depth - body.fat - 17
    narrowing = 0.3 * np.clip(scan.z / body.lung_height - 0.45, 0, 1) ** 1.5
    return _ellipse(scan, 0, -4, half_x, half_y, 2.3) - narrowing * half_y


def _spine_y(body: _Body) -> float:
    return body.half_depth - body.fat - 35


def _heart(scan: _Scan, body: _Body) -> Slices:
    """Signed distance to the heart: an ellipsoid, its apex to the left and front, its top in the middle."""
    z = scan.z - 0.24 * body.lung_height
    x, y = scan.x - 20 + 18 * np.clip(z / 58, 0, 1), scan.y + 22 - 14 * np.clip(z / 58, 0, 1)
    along, across = 0.85 * x - 0.53 * y, 0.53 * x + 0.85 * y
    return (1 - np.sqrt((along / 66) ** 2 + (across / 46) ** 2 + (z / 58) ** 2) / body.heart) * 46


def _lungs(scan: _Scan, body: _Body) -> _Lungs:
    """Both lungs: the rib cage without diaphragm, mediastinum, heart, spine and pleural fluid."""
    rng = default_rng([*body.entropy, 2])
    side = np.abs(scan.x)
    dome = np.exp(-(((side - 72) / 62) ** 2) - ((scan.y + 12) / 70) ** 2)
    diaphragm = (62 + np.where(scan.x < 0, 12, 0)) * dome - 14 + 3 * _noise(scan, rng, 40)
    top = body.lung_height - 0.016 * ((side - 45) ** 2 + (scan.y - 10) ** 2)
    above_diaphragm = (scan.z - diaphragm) * 0.75
    depth = np.minimum(np.minimum(_cavity(scan, body), above_diaphragm), (top - scan.z) * 0.5)
    spine_y = _spine_y(body)
    middle = 7 + 24 * np.exp(-(((scan.y - 8) / 42) ** 2)) + 4 * _noise(scan, rng, 45) - side
    solid = np.maximum(middle, np.where(scan.y > spine_y, 22 - side, -99))
    solid = np.maximum(solid, _ellipse(scan, 0, spine_y, 23, 21))
    solid = np.maximum(solid, _ellipse(scan, 25, spine_y - 20, 14, 14))  # the descending aorta
    solid = np.maximum(solid, _heart(scan, body) + 4)
    border = np.minimum(depth, -solid) + 1.2 * _noise(scan, rng, 15)
    fluid = np.where(scan.x < 0, body.fluid_y, body.fluid_y + 14) + 0.35 * scan.z - scan.y
    border = np.minimum(border, fluid).astype(np.float32)
    return _Lungs(border, np.maximum(depth, 0).astype(np.float32), above_diaphragm.astype(np.float32))


def _paint(hu: Slices, scan: _Scan, distance_mm: Slices, value_hu: float | Slices) -> None:
    """Replace what lies within a border by `value_hu`, in place, voxels across it in proportion."""
    hu += scan.inside(distance_mm) * (value_hu - hu)


def _soft_tissue(scan: _Scan, body: _Body) -> Slices:
    """Everything but lungs and bones, in HU: table, skin, fat, muscle, heart, great vessels, stomach."""
    rng = default_rng([*body.entropy, 3])
    hu = np.full(scan.shape, AIR_HU, np.float32)
    skin = _ellipse(scan, 0, 0, body.half_width, body.half_depth, 2.4) + 4 * _noise(scan, rng, 70)
    cavity, streaks, heart = _cavity(scan, body), _noise(scan, rng, 9), _heart(scan, body)
    _paint(hu, scan, 2.5 - np.abs(scan.y - body.half_depth - 14 + (scan.x / 60) ** 2), -150)
    _paint(hu, scan, skin, 20)
    _paint(hu, scan, skin - 2, -105 + 12 * streaks)
    muscle = np.minimum(np.maximum(skin - body.fat, cavity + 18) + 3 * streaks, skin - 5)
    _paint(hu, scan, muscle, 48 + 8 * streaks)
    in_front = np.minimum(cavity, 26 - np.abs(scan.x) + 8 * streaks)
    _paint(hu, scan, np.minimum(in_front, scan.z - 30), -85)  # mediastinal fat, then what lies in it
    _paint(hu, scan, heart, 45)
    _paint(hu, scan, heart - 9 + 4 * streaks, body.blood_hu)
    spine_y = _spine_y(body)
    base = np.minimum(scan.z - 0.35 * body.lung_height, 0.8 * body.lung_height - scan.z)
    _paint(hu, scan, _ellipse(scan, 25, spine_y - 20, 12, 12), body.blood_hu)  # the descending aorta
    for x, y, radius in ((-14, -22, 15), (16, -28, 14), (-22, -6, 9)):  # aorta, pulmonary trunk, vena cava
        _paint(hu, scan, np.minimum(_ellipse(scan, x, y, radius, radius), base), body.blood_hu)
    _paint(hu, scan, np.minimum(_ellipse(scan, 62, -30, 30, 24), -8 - scan.z), -900)  # gas in the stomach
    return hu


def _add_bones(hu: Slices, scan: _Scan, body: _Body) -> None:
    """Paint ribs that slope down to the front, shoulder blades, sternum, vertebrae with discs and arches."""
    cavity, spine_y, side = _cavity(scan, body), _spine_y(body), np.abs(scan.x)
    marrow = 190 + 50 * _noise(scan, default_rng([*body.entropy, 4]), 9)
    slope = (scan.z - 0.5 * scan.y) % 25 - 12.5
    rib = np.minimum(5.5 - np.sqrt((cavity + 8) ** 2 + (slope * 0.85) ** 2), side - 24)
    blade = np.minimum(np.minimum(2.5 - np.abs(cavity + 19), 34 - np.abs(side - 92)), scan.y - 30)
    sternum = _ellipse(scan, 0, -spine_y - 30, 19, 6)
    for bone in (rib, np.minimum(blade, scan.z - 95), sternum):
        _paint(hu, scan, bone, 520)
        _paint(hu, scan, bone - 2, marrow)
    vertebra = _ellipse(scan, 0, spine_y, 19, 16)
    disc = np.clip((np.abs((scan.z + 7) % 27 - 13.5) - 9.5) / 2, 0, 1)
    _paint(hu, scan, vertebra, 420 - 330 * disc)
    _paint(hu, scan, vertebra - 2, marrow - 100 * disc)
    arch = np.maximum(_ellipse(scan, 0, spine_y + 22, 17, 13), _ellipse(scan, 0, spine_y + 34, 4, 12))
    _paint(hu, scan, np.maximum(arch, _ellipse(scan, 0, spine_y + 20, 36, 5)), 380)
    _paint(hu, scan, _ellipse(scan, 0, spine_y + 21, 10, 8), 35)


def _parenchyma(scan: _Scan, body: _Body, lungs: _Lungs, rng: Generator) -> Slices:
    """Lung without lesions or vessels, in HU: heavier towards the back, patchy, with dependent density."""
    fixed = default_rng([*body.entropy, 5])
    patchy = _noise(scan, fixed, 22)
    hu = body.lung_hu + 28 * patchy + 14 * _noise(scan, fixed, 7) + rng.uniform(20, 60) * scan.y / 80
    fissure = np.abs(scan.z - 110 - 0.9 * scan.y + 8 * _noise(scan, fixed, 40)) / 2
    hu += 90 * np.clip(1.5 - fissure, 0, 1)
    hu -= 70 * fixed.choice([0, 0, 1]) * np.clip(_noise(scan, fixed, 11) - 0.6, 0, 1)  # emphysema
    dependent = np.exp(-lungs.depth / 6) / (1 + np.exp((38 - scan.y) / 8))
    hu += rng.choice([40, 90, 150, 220]) * dependent * np.clip(0.8 + 0.5 * patchy, 0, 1.5)
    return hu.astype(np.float32)


def _add_lesions(
    parenchyma: Slices, scan: _Scan, lungs: _Lungs, share_of_lung: float | None, rng: Generator
) -> NDArray[np.uint8]:
    """Thicken the lung where it is infected, and draw the mask as a reader does: a smoother line.

    Lesions are the points above one level of a landscape: hills around subpleural seeds, a rise towards the
    pleura, and noise. The level is the quantile that gives the wanted share of the lung.
    """
    lung = np.flatnonzero(lungs.border > -scan.spacing_mm[2])
    inside = lungs.border.ravel()[lung] > 0
    hills = _landscape(scan, lungs, lung, share_of_lung, rng)
    ragged = hills + 0.13 * _noise(scan, rng, 6).ravel()[lung]
    count = int(rng.integers(110, 150)) if share_of_lung is None else share_of_lung * inside.sum()
    level = np.partition(hills[inside], -int(count) - 1)[-int(count) - 1]
    mask = np.zeros(scan.shape, np.uint8)
    mask.ravel()[lung[inside & (hills > level)]] = 1

    softness = rng.uniform(0.03, 0.08)
    above = rng.choice([0.5, 0.7, 1.1]) if share_of_lung else 0.8
    core = level + above + 0.3 * _noise(scan, rng, 14).ravel()[lung]
    ground_glass = rng.uniform(-520, -370) + 50 * _noise(scan, rng, 20).ravel()[lung]
    ground_glass += rng.choice([20, 60]) * _noise(scan, rng, 4).ravel()[lung]  # fine, or a crazy paving
    consolidation = rng.uniform(-90, 30)
    hu = parenchyma.ravel()[lung]
    hu += (np.clip(ground_glass, -620, -280) - hu) * _sigmoid((ragged - level) / softness)
    spared = np.exp(-((lungs.depth.ravel()[lung] / 7) ** 2))  # below the pleura even dense lesions stay hazy
    hu += (consolidation - hu) * _sigmoid((ragged - core) / softness) * (1 - 0.85 * spared)
    parenchyma.ravel()[lung] = hu
    return mask


def _sigmoid(value: Slices) -> Slices:
    return 1 / (1 + np.exp(-np.clip(value, -30, 30)))


def _landscape(
    scan: _Scan, lungs: _Lungs, lung: NDArray[np.intp], share_of_lung: float | None, rng: Generator
) -> Slices:
    """Height of the lesions' landscape at the flat indices `lung`, without unit."""
    where = np.unravel_index(lung, scan.shape)
    points = [axis.ravel()[index] for axis, index in zip((scan.z, scan.y, scan.x), where, strict=True)]
    depth = lungs.depth.ravel()[lung]
    likely = np.exp(-depth / 9) * np.exp(points[1] / 90) * (lungs.border.ravel()[lung] > 4)
    count = 1 if share_of_lung is None else int(rng.integers(10, 28))
    seeds = rng.choice(lung.size, count, replace=False, p=likely / likely.sum())
    hills = np.full(lung.size, -np.inf, np.float32)
    for seed in seeds:
        radius = rng.uniform(9, 12) if share_of_lung is None else rng.lognormal(2.75, 0.4)
        away = sum((axis - axis[seed]) ** 2 for axis in points)
        np.maximum(hills, -np.sqrt(away) / radius, out=hills)
    if share_of_lung is not None:
        hills += 0.4 * _noise(scan, rng, 18).ravel()[lung] + 0.6 * np.exp(-depth / 9)
    return hills


def _add_trees(hu: Slices, scan: _Scan, body: _Body) -> None:
    """Add bronchi and pulmonary vessels, which branch from both hila, to the lungs' HU in place."""
    rng = default_rng([*body.entropy, 6])
    wall, lumen = _tree(scan, body, rng, 4, 2.4, 1.1)
    vessels, _ = _tree(scan, body, rng, 7, 3.9, 0)
    for share, value_hu in ((wall, -250), (lumen, -980), (vessels, max(body.blood_hu, 40))):
        hu += share * (value_hu - hu)


def _tree(
    scan: _Scan, body: _Body, rng: Generator, generations: int, radius_mm: float, wall_mm: float
) -> tuple[Slices, Slices]:
    """Share of each voxel that a branching tree fills: with its wall, and its lumen alone."""
    side = np.repeat([-1.0, 1.0], 9)
    start = np.stack([0.45 * body.lung_height + 8 * rng.standard_normal(side.size), 6 + 0 * side, 34 * side], 1)
    direction = rng.standard_normal((side.size, 3)) * [1.3, 0.9, 0.5] + np.outer(side, [0, 0, 0.7])
    filled = [np.zeros(scan.shape, np.float32) for _ in range(2)]
    for generation in range(generations):
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        step = direction * (30 * 0.86**generation * rng.uniform(0.6, 1.2, (len(direction), 1)))
        radius = radius_mm * 0.77**generation
        _fill_tubes(filled[0], scan, start, step, radius + wall_mm, rng)
        if wall_mm:
            _fill_tubes(filled[1], scan, start, step, radius, rng)
        start, direction = np.repeat(start + step, 2, 0), np.repeat(direction, 2, 0)
        direction += 0.5 * rng.standard_normal(direction.shape)
    return np.clip(filled[0], 0, 1), np.clip(filled[1], 0, 1)


def _fill_tubes(filled: Slices, scan: _Scan, start: NDArray, step: NDArray, radius: float, rng: Generator) -> None:
    """Add the share of each voxel that straight tubes fill, by points strewn through them: even the finest
    vessel leaves its partial volume. `start` and `step` are (n, 3) in mm."""
    lengths = np.linalg.norm(step, axis=1)
    voxel_mm3 = float(np.prod(scan.spacing_mm))
    per_tube = int(lengths.mean() * (8 / min(scan.spacing_mm) + 6 * np.pi * radius**2 / voxel_mm3)) + 1
    along = rng.random((len(start), per_tube, 1))
    off = rng.standard_normal((len(start), per_tube, 3)) * (radius / 2)
    points = start[:, None] + along * step[:, None] + off
    share = np.repeat(np.pi * radius**2 * lengths / per_tube / voxel_mm3, per_tube)
    first = np.array([scan.z.min(), scan.y.min(), scan.x.min()])
    voxels = np.rint((points.reshape(-1, 3) - first) / scan.spacing_mm).astype(int)
    within = np.all((voxels >= 0) & (voxels < scan.shape), axis=1)
    flat = np.ravel_multi_index(tuple(voxels[within].T), scan.shape)
    filled += np.bincount(flat, share[within], filled.size).reshape(scan.shape)


def _add_main_airways(hu: Slices, scan: _Scan, body: _Body) -> None:
    """Paint trachea and main bronchi, each a tube around a straight line."""
    carina = np.array([0.56 * body.lung_height, 10, 0])
    ends = ([body.lung_height + 60, 2, 0], [0.47 * body.lung_height, 12, -38], [0.46 * body.lung_height, 12, 40])
    away = [scan.z - carina[0], scan.y - carina[1], scan.x - carina[2]]
    lumen = np.full(scan.shape, -np.inf, np.float32)
    for end, radius in zip(ends, (8.5, 6.5, 6.0), strict=True):
        line = np.array(end) - carina
        along = np.clip(sum(a * b for a, b in zip(away, line, strict=True)) / (line @ line), 0, 1)
        distance = np.sqrt(sum((a - along * b) ** 2 for a, b in zip(away, line, strict=True)))
        np.maximum(lumen, radius - distance, out=lumen)
    _paint(hu, scan, lumen + 1.5, 20)
    _paint(hu, scan, lumen, -990)


def _blur_by_motion(hu: Slices, lungs: _Lungs, rng: Generator) -> None:
    """Let heart and diaphragm move during the scan: a double contour that fades upwards, in place."""
    pixels = int(rng.choice([0, 1, 2]))
    ghost = (np.roll(hu, pixels, 1) + np.roll(hu, -pixels, 1)) / 2
    hu += 0.6 * np.exp(-np.abs(lungs.above_diaphragm) / 25) * (ghost - hu)


def _acquire(hu: Slices, scan: _Scan, rng: Generator) -> NDArray:
    """Blur, add noise that is correlated as a reconstruction's is, and store int16 HU or 8-bit windowed."""
    sharp = rng.uniform(0.45, 0.75)
    hu = gaussian_filter(hu, (0.4, sharp, sharp), truncate=3)
    grain = gaussian_filter(rng.standard_normal(scan.shape, np.float32), (0, 0.6, 0.6), truncate=3)
    hu += rng.uniform(10, 45) / grain.std() * grain
    if rng.random() < 0.5:  # some scanners fill what lies outside the circular field of view
        hu[:, (scan.y**2 + scan.x**2)[0] > (scan.x.max() - scan.x.min()) ** 2 / 4] = -1024
    if not scan.windowed:
        return np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
    low, high = WINDOW_HU
    return np.rint(np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
