"""Break each rule of the gate in a copy of the code, and report whether a test fails each time.

mutmut skips properties, which decide here (`Rule.margin`, `Verdict.passed`), and cosmic-ray starts pytest for each of
its 330 mutants of these files, which takes over ten minutes.

Run: python -m tests.bench.evaluate_mutations [prefix of a name, such as champion]
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ["tests/evaluate/test_gate.py", "tests/evaluate/test_rules.py"]
RULES, VERDICT, COHORT, SCORES, LIMITS = (
    f"components/evaluate/{name}.py" for name in ("rules", "verdict", "cohort", "scores", "limits")
)

# Name, file, and the text before and after.
MUTATIONS = [
    ("every rule: >= becomes >", RULES, "self.margin >= 0", "self.margin > 0"),
    ("every rule: always holds", RULES, "return self.margin is not None and self.margin >= 0", "return True"),
    ("every rule: inverted", RULES, "self.margin >= 0", "self.margin <= 0"),
    ("at most: becomes at least", RULES, "if self.at_least else limit - value", "if True else 0.0"),
    ("not finite: accepted", RULES, "not (math.isfinite(self.value) and math.isfinite(self.limit))", "False"),
    ("digits: always rounded", RULES, "if np.sign(float(short[0])", "if False and np.sign(float(short[0])"),
    ("one rule is enough", VERDICT, "return all(rule.passed", "return any(rule.passed"),
    ("a verdict on another model", VERDICT, "verdict.model_sha256 != model_sha256", "False"),
    ("a refusal is exported", VERDICT, "    if not verdict.passed:\n        raise", "    if False:\n        raise"),
    ("edited: what follows from the scores", VERDICT, "    if edited:\n", "    if False:\n"),
    ("edited: only what is known", VERDICT, "expected.keys() | content.keys()", "expected.keys()"),
    ("edited: the scores", VERDICT, ".hexdigest() != verdict_sha256", '.hexdigest() == ""'),
    ("threshold: any number", VERDICT, "if not 0 < threshold < 1:", "if False:"),
    ("threshold: 0 is accepted", VERDICT, "if not 0 < threshold < 1:", "if not 0 <= threshold < 1:"),
    ("threshold: 1 is accepted", VERDICT, "if not 0 < threshold < 1:", "if not 0 < threshold <= 1:"),
    ("patients: named", VERDICT, '{"patient_id": numbers[row.patient_id]}', "{}"),
    ("patients: mixed up", VERDICT, "numbers[row.patient_id]", "row.case_id"),
    ("volumes: any number", RULES, "    gate.rules.extend(_impossible_volumes(scores))\n", ""),
    ("lesion: empty cases count, too", SCORES, "if row.lesion_ml != 0]", "]"),
    ("lesion: a volume of NaN is none", SCORES, "if row.lesion_ml != 0]", "if row.lesion_ml > 0]"),
    ("mean: rounded", RULES, "fmean(row.dice for row in rows)", "round(fmean(row.dice for row in rows), 2)"),
    ("mean: of all cases", RULES, 'over {}", rows, limits.min_dice)', 'over {}", scores, limits.min_dice)'),
    ("mean: the best case", RULES, "fmean(row.dice for row in rows)", "max(row.dice for row in rows)"),
    ("interval: left out", RULES, "if limits.min_dice_ci:", "if False:"),
    ("interval: upper end", RULES, "interval.low if interval", "interval.high if interval"),
    ("interval: over cases", COHORT, "sums[patient] += (value, 1)", "sums[patient + str(len(sums))] += (value, 1)"),
    ("worst case: left out", RULES, "if limits.min_case_dice:", "if False:"),
    ("worst case: the best one", RULES, "(not math.isnan(row.dice), row.dice)", "-row.dice"),
    ("worst case: trivial ones too", RULES, "not row.lesion_ml < TRIVIAL_ML and", ""),
    ("worst case: hard ones too", RULES, " and row.case_id not in limits.hard_cases", ""),
    ("worst case: 0.5 mL is trivial", RULES, "not row.lesion_ml < TRIVIAL_ML", "row.lesion_ml > TRIVIAL_ML"),
    ("sites: left out", RULES, "if limits.min_site_dice:", "if False:"),
    ("sites: pooled", RULES, "if row.site == site]", "]"),
    ("sites: all cases", RULES, "rows = with_lesion([row for row in scores if row.site == site])",
     "rows = [row for row in scores if row.site == site]"),
    ("healthy scans: left out", RULES, "    _add_false_positives(gate, scores, limits)\n", ""),
    ("healthy scans: at least", RULES, "limit, at_least=False", "limit, at_least=True"),
    ("healthy scans: smallest volume", RULES, "np.max(healthy)", "np.min(healthy)"),
    ("healthy scans: every scan", RULES, "if row.lesion_ml == 0]", "]"),
    ("champion: left out", RULES, "if comparison is None:", "if True:"),
    ("champion: sign of the limit", RULES, "-limits.max_regression", "limits.max_regression"),
    (
        "champion: a missing change is ignored",
        RULES,
        "if comparison is None:",
        "if comparison is None or comparison.mean_change is None:",
    ),
    ("champion: sign of the change", COHORT, "row.dice - row.champion_dice", "row.champion_dice - row.dice"),
    ("champion: missing cases are ignored", COHORT, "if problem or not changes:", "if not changes:"),
    ("champion: all cases", COHORT, "with_lesion(scores)\n        changes", "scores\n        changes"),
    ("limits: any number", LIMITS, "if not _is_number(getattr(self, name), 1)", "if False"),
    ("limits: any volume", LIMITS, "if not _is_number(self.max_false_positive_ml, _MAX_ML):", "if False:"),
    ("limits: 0 is refused", LIMITS, "0 <= value <= high", "0 < value <= high"),
]  # fmt: skip


def survives(mutation: tuple[str, str, str, str]) -> bool:
    """Return whether all tests pass on the mutated code."""
    name, file, before, after = mutation
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for package in ("components", "serving", "tests"):
            shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        text = (copy / file).read_text()
        if text.count(before) != 1:
            raise SystemExit(f"{name}: {before!r} occurs {text.count(before)} times in {file}; expected once")
        (copy / file).write_text(text.replace(before, after))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *TESTS]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{name}: the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == 0


def main(prefix: str) -> None:
    """Print whether the tests caught each mutation; exit with status 1 if one survived."""
    mutations = [mutation for mutation in MUTATIONS if mutation[0].startswith(prefix)]
    with ThreadPoolExecutor(2) as pool:
        survivors = 0
        for (name, *_), survived in zip(mutations, pool.map(survives, mutations), strict=True):
            survivors += survived
            print(f"{'SURVIVED' if survived else 'caught  '}  {name}", flush=True)
    print(f"{len(mutations) - survivors} of {len(mutations)} caught")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
