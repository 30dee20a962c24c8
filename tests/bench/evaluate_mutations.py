"""Is the gate held by its tests? Each of its rules is broken in a copy of the code; a test has to fail each time.

Run: python -m tests.bench.evaluate_mutations [beginning of a name, such as champion]
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ["tests/evaluate/test_gate.py", "tests/evaluate/test_rules.py"]
RULES, VERDICT, CHAMPION, COHORT = (
    f"components/evaluate/{name}.py" for name in ("rules", "verdict", "champion", "cohort")
)

# What is broken, in which file, and the text before and after.
MUTATIONS = [
    ("every rule: >= becomes >", VERDICT, "self.margin >= 0", "self.margin > 0"),
    ("every rule: always holds", VERDICT, "return self.margin is not None and self.margin >= 0", "return True"),
    ("every rule: upside down", VERDICT, "self.margin >= 0", "self.margin <= 0"),
    ("at most: taken for at least", VERDICT, "if self.at_least else self.limit - self.value", "if True else 0.0"),
    (
        "not finite: taken for a number",
        VERDICT,
        "not (math.isfinite(self.value) and math.isfinite(self.limit))",
        "False",
    ),
    ("one rule is enough", VERDICT, "and all(rule.passed", "and any(rule.passed"),
    ("no case is enough", VERDICT, "bool(self.cases and self.rules)", "bool(self.rules)"),
    ("no rule is enough", VERDICT, "bool(self.cases and self.rules)", "bool(self.cases)"),
    ("a verdict on another model", VERDICT, "verdict.model_sha256 != model_sha256", "False"),
    ("a refusal is exported", VERDICT, "    if not verdict.passed:\n        raise", "    if False:\n        raise"),
    ("a relabeled refusal", VERDICT, "if stated != verdict.verdict:", "if False:"),
    ("mean: rounded", RULES, "fmean(row.dice for row in scores)", "round(fmean(row.dice for row in scores), 2)"),
    ("mean: left out", RULES, '[_mean("mean_dice", "mean Dice over {}", scores, limits.min_dice)]', "[]"),
    ("mean: the best case", RULES, "fmean(row.dice for row in scores)", "max(row.dice for row in scores)"),
    ("interval: left out", RULES, "if limits.min_dice_ci:", "if False:"),
    ("interval: its upper end", RULES, "interval.low if interval", "interval.high if interval"),
    (
        "interval: over cases, not patients",
        COHORT,
        "sums[patient] += (value, 1)",
        "sums[patient + str(len(sums))] += (value, 1)",
    ),
    ("worst case: left out", RULES, "if limits.min_case_dice:", "if False:"),
    ("worst case: the best one", RULES, "(not math.isnan(row.dice), row.dice)", "-row.dice"),
    ("worst case: trivial ones too", RULES, "row.lesion_ml >= TRIVIAL_ML and", ""),
    ("worst case: hard ones too", RULES, " and row.case_id not in limits.hard_cases", ""),
    ("worst case: 0.5 mL is trivial", RULES, "row.lesion_ml >= TRIVIAL_ML", "row.lesion_ml > TRIVIAL_ML"),
    ("sources: left out", RULES, "if limits.min_site_dice:", "if False:"),
    ("sites: all in one", RULES, "if row.site == site]", "]"),
    ("healthy scans: left out", RULES, "_false_positives(asked, scores, limits)\n    _champion", "_champion"),
    ("healthy scans: at least", RULES, "limit, at_least=False", "limit, at_least=True"),
    ("healthy scans: the least volume", RULES, "np.max(healthy)", "np.min(healthy)"),
    ("healthy scans: every scan", RULES, "if row.lesion_ml == 0]", "]"),
    ("champion: left out", RULES, "if comparison is None:", "if True:"),
    ("champion: sign of the limit", RULES, "-limits.max_regression", "limits.max_regression"),
    (
        "champion: missing is forgiven",
        RULES,
        "if comparison is None:",
        "if comparison is None or comparison.mean_change is None:",
    ),
    ("champion: sign of the change", CHAMPION, "row.dice - row.champion_dice", "row.champion_dice - row.dice"),
    ("champion: cases may be missing", CHAMPION, "or len(changes) < len(scores)", "or not changes"),
    ("limits: any number", RULES, "if not 0 <= getattr(self, name) <= 1:", "if False:"),
    ("limits: any volume", RULES, 'if not 0 <= self.max_false_positive_ml < float("inf"):', "if False:"),
]


def survives(mutation: tuple[str, str, str, str]) -> bool:
    """Whether all tests pass although the code is broken."""
    what, file, before, after = mutation
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        ignore = shutil.ignore_patterns("__pycache__")
        for part in ("components", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        text = (copy / file).read_text()
        if text.count(before) != 1:
            raise SystemExit(f"{what}: {before!r} stands {text.count(before)} times in {file}; expected once")
        (copy / file).write_text(text.replace(before, after))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *TESTS]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{what}: the tests could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == 0


def main(beginning: str) -> None:
    """Print each mutation and whether the tests noticed it; exit 1 if one was not."""
    mutations = [mutation for mutation in MUTATIONS if mutation[0].startswith(beginning)]
    with ThreadPoolExecutor(2) as pool:
        survivors = 0
        for (what, *_), survived in zip(mutations, pool.map(survives, mutations), strict=True):
            survivors += survived
            print(f"{'SURVIVED' if survived else 'caught  '}  {what}", flush=True)
    print(f"{len(mutations) - survivors} of {len(mutations)} caught")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
