"""Great Expectations' pages of the suite and its result, made self-contained.

The library's templates load styles and scripts from seventeen addresses: unreachable in a hospital, tracking elsewhere.
"""

import json
import re
from pathlib import Path

from great_expectations.core import ExpectationSuite
from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
from great_expectations.render.renderer.page_renderer import ExpectationSuitePageRenderer, ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView
from great_expectations.util import convert_to_json_serializable

SUITE, RESULT_PAGE, SUITE_PAGE = "suite.json", "result.html", "suite.html"
_EXTERNAL_ELEMENTS = re.compile(
    r"<script\b[^>]*\bsrc\s*=[^>]*>.*?</script>|<link\b[^>]*>|<img\b[^>]*https?:[^>]*>|<script\b[^>]*>.*?</script>",
    re.DOTALL | re.IGNORECASE,
)
# Links to other hosts or to the index of a Data Docs site, which does not exist here; and event handlers.
_EXTERNAL_ATTRIBUTES = re.compile(
    r"""\s(?:href|src)\s*=\s*(["'])(?:(?:https?:)?//|\.\./).*?\1|\son\w+\s*=\s*(["']).*?\2|\burl\([^)]*\)""",
    re.DOTALL | re.IGNORECASE,
)
_STYLE = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem; text-align: left; vertical-align: top; }
h5 { font-size: 1.1rem; margin: 1.5rem 0 0; } h6, .h6 { font-size: 1rem; font-weight: 600; }
.badge { font-family: monospace; background: #eee; padding: 0 .2rem; }
.fa-check-circle::before { content: "met"; font-style: normal; color: #0072B2; }
.fa-times::before { content: "not met"; font-style: normal; color: #D55E00; font-weight: 600; }
.fa-exclamation-triangle::before { content: "warning"; font-style: normal; }
.sticky-top, .modal, .btn, .card:has(.btn), [data-toggle=collapse], button, footer { display: none; }
</style>
</head>"""


def write_data_docs(folder: Path, suite: ExpectationSuite, validation: ExpectationSuiteValidationResult) -> None:
    """Write `suite.json` and the pages of suite and result into an existing folder."""
    (folder / SUITE).write_text(json.dumps(suite.to_json_dict(), indent=2) + "\n")
    for result in validation.results:
        # The renderers fail on scalars of NumPy 2, whose repr is np.float64(…).
        result.result = json.loads(json.dumps(convert_to_json_serializable(result.result)))
    view = DefaultJinjaPageView()
    (folder / SUITE_PAGE).write_text(_strip_external(view.render(ExpectationSuitePageRenderer().render(suite))))
    (folder / RESULT_PAGE).write_text(_strip_external(view.render(ValidationResultsPageRenderer().render(validation))))


def _strip_external(page: str) -> str:
    return _EXTERNAL_ATTRIBUTES.sub("", _EXTERNAL_ELEMENTS.sub("", page)).replace("</head>", _STYLE, 1)
