"""A finding: an expectation that a case, or the cohort as a whole, does not meet."""

from collections.abc import Sequence
from dataclasses import dataclass

CRITICAL = "critical"
_CASES_SHOWN = 10
_GROUPS_SHOWN = 10


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        severity: `critical` findings keep a case, or the cohort, from being trained on; a `warning` does not.
        case_id: the case, or None for the cohort as a whole.
        fact: the column of the fact table that it rests on.
        says: what was found and what was expected.
        remedy: what to do.
    """

    severity: str
    case_id: str | None
    fact: str
    says: str
    remedy: str

    @property
    def is_critical(self) -> bool:
        """Whether it keeps the case from being trained on."""
        return self.severity == CRITICAL


def in_one_line(findings: Sequence[Finding]) -> str:
    """The findings joined; cases of which the same is said are named together; ten of each at most."""
    cases_of: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        cases_of.setdefault((finding.says, finding.remedy), []).append(finding.case_id or "")
    told = [f"{_cases(cases)}{says} ({remedy})" for (says, remedy), cases in cases_of.items()]
    more = [f"and {len(told) - _GROUPS_SHOWN} more, see the report"] if len(told) > _GROUPS_SHOWN else []
    return "; ".join([*told[:_GROUPS_SHOWN], *more])


def _cases(case_ids: list[str]) -> str:
    if case_ids == [""]:
        return ""
    shown = ", ".join(case_ids[:_CASES_SHOWN])
    more = f" and {len(case_ids) - _CASES_SHOWN} more" if len(case_ids) > _CASES_SHOWN else ""
    return f"case{'s' if len(case_ids) > 1 else ''} {shown}{more}: "
