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
RULES, VERDICT, COHORT = (f"components/evaluate/{name}.py" for name in ("rules", "verdict", "cohort"))

# Name, file, and the text before and after.
MUTATIONS = [
    ("every rule: >= becomes >", VERDICT, "self.margin >= 0", "self.margin > 0"),
    ("every rule: always holds", VERDICT, "return self.margin is not None and self.margin >= 0", "return True"),
    ("every rule: inverted", VERDICT, "self.margin >= 0", "self.margin <= 0"),
    ("at most: becomes at least", VERDICT, "if self.at_least else self.limit - self.value", "if True else 0.0"),
    ("at most: read back as at least", VERDICT, 'limit, row["at_least"])', "limit)"),
    ("not finite: accepted", VERDICT, "not (math.isfinite(self.value) and math.isfinite(self.limit))", "False"),
    ("one rule is enough", VERDICT, "and all(rule.passed", "and any(rule.passed"),
    ("no case is enough", VERDICT, "bool(self.cases and self.rules)", "bool(self.rules)"),
    ("no rule is enough", VERDICT, "bool(self.cases and self.rules)", "bool(self.cases)"),
    ("a verdict on another model", VERDICT, "verdict.model_sha256 != model_sha256", "False"),
    ("a refusal is exported", VERDICT, "    if not verdict.passed:\n        raise", "    if False:\n        raise"),
    ("a relabeled refusal", VERDICT, "if recorded != verdict.verdict:", "if False:"),
    ("mean: rounded", RULES, "fmean(row.dice for row in scores)", "round(fmean(row.dice for row in scores), 2)"),
    (
        "mean: left out",
        RULES,
        'gate.rules.append(_mean("mean_dice", "mean Dice over {}", scores, limits.min_dice))',
        "",
    ),
    ("mean: the best case", RULES, "fmean(row.dice for row in scores)", "max(row.dice for row in scores)"),
    ("interval: left out", RULES, "if limits.min_dice_ci:", "if False:"),
    ("interval: upper end", RULES, "interval.low if interval", "interval.high if interval"),
    ("interval: over cases", COHORT, "sums[patient] += (value, 1)", "sums[patient + str(len(sums))] += (value, 1)"),
    ("worst case: left out", RULES, "if limits.min_case_dice:", "if False:"),
    ("worst case: the best one", RULES, "(not math.isnan(row.dice), row.dice)", "-row.dice"),
    ("worst case: trivial ones too", RULES, "row.lesion_ml >= TRIVIAL_ML and", ""),
    ("worst case: hard ones too", RULES, " and row.case_id not in limits.hard_cases", ""),
    ("worst case: 0.5 mL is trivial", RULES, "row.lesion_ml >= TRIVIAL_ML", "row.lesion_ml > TRIVIAL_ML"),
    ("sites: left out", RULES, "if limits.min_site_dice:", "if False:"),
    ("sites: pooled", RULES, "if row.site == site]", "]"),
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
    ("champion: missing cases are ignored", COHORT, "or len(changes) < len(scores)", "or not changes"),
    ("limits: any number", RULES, "if not 0 <= getattr(self, name) <= 1:", "if False:"),
    ("limits: any volume", RULES, "if not 0 <= self.max_false_positive_ml < math.inf:", "if False:"),
    ("limits: a volume of 0 is refused", RULES, "if not 0 <= self.max_false", "if not 0 < self.max_false"),
]


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
