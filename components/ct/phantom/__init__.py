"""A synthetic chest-CT cohort with the quirks of the 20-case COVID-19 CT data set (Zenodo record 3757476).

Anatomy is defined by signed distances in patient millimeters: two scans of one patient show the same ribs, heart and
vessels on two voxel grids, with partial volumes at borders. Each patient and each case has its own random stream: the
same seed gives the same bytes, and a longer cohort starts with the cases of a shorter one.

No threshold segments the lesions: vessels, dependent density, the chest wall and blurred lung borders share their HU.
Over 12 cases of seed 0 the best threshold reaches a Dice of 0.10 (mean and pooled), and the best window, -580 to
-260 HU, 0.36 (mean) and 0.41 (pooled).
"""

from components.ct.phantom.cohort import write_cohort

__all__ = ["write_cohort"]
