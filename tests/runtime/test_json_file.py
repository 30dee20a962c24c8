"""A damaged file of another step ends its reader with one line that names the file and what to run again."""

import pytest

from components.evaluate.verdict import read_verdict
from components.plan_parts.plan import read_part
from components.runtime.errors import InputError
from components.select_fold.selection import select_fold
from components.slice.split import Split
from components.summarize_folds.fold_scores import read_fold_scores
from components.validate.profile import Profile

READERS = {
    "slice": ("split.json", lambda path: Split.read(path.parent)),
    "evaluate": ("verdict.json", read_verdict),
    "assign_folds": ("folds.json", lambda path: read_fold_scores(path.parent, [])),
    "assign_folds again": ("folds.json", lambda path: select_fold(path.parent, path.parent, path / "out", number=1)),
    "plan_parts": ("plan.json", lambda path: read_part(path.parent, 1)),
    "validate": ("profile.json", lambda path: Profile.read(path.parent)),
}
DAMAGED = (None, b"", b"{", b"\xff", b"7", b"null", b"{}", b'["a"]', b'{"train": 7}', b"[" * 100_000, b"1" * 5_000)


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: str(content)[:12])
@pytest.mark.parametrize("step", READERS)
def test_a_damaged_file_is_one_line_with_the_file_and_its_step(step, content, tmp_path):
    name, read = READERS[step]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read(tmp_path / name)
    (line,) = map(str, error.value.args)
    assert line.startswith(f"{tmp_path / name}: ")
    assert "\n" not in line
    assert step.partition(" ")[0] in line.partition("; ")[2]
