"""Reference pages of components and pipelines, generated from their signatures and docstrings: `make docs`."""

import json
import logging
from pathlib import Path
from typing import Any

import docstring_parser
import yaml  # type: ignore[import-untyped]
from kfp.dsl.python_component import PythonComponent

from components.runtime.files import atomic_write
from components.runtime.step import configure_logging
from pipelines.parameters import PIPELINES, find_components

ROOT = Path(__file__).parents[1]
_log = logging.getLogger(__name__)
_USAGE = """

## Usage

`make compile` writes the package; in a pipeline:

```python
from kfp import components

{name} = components.load_component_from_file("build/components/{name}.yaml")
task = {name}({arguments})
```

Stability: {stability}. Tags: {tags}.
"""
_LINE = 120  # characters; the arguments of a longer call are written one on a line, as ruff does
_PARAMETERS_HEAD = """# Pipeline parameters

`make run`, `make cross-validate` and `make predict` take these names in capitals, `lung-ct` in any case; the Kubeflow
UI shows them in lower case. All are checked before anything is read, by `lung-ct run` and by the step
`check-parameters`; each finding is a line. Locally, `~` in paths is expanded. On a cluster, Kubernetes replaces
`$(NAME)` and `$$` in values, and Argo `{{workflow.…}}`.
`make docs` generates this page."""


def generate_pages() -> dict[Path, str]:
    """Generate a README for each component, and docs/parameters.md; keys are absolute paths."""
    pages = {ROOT / "docs" / "parameters.md": _parameters_page()}
    for name, component in find_components().items():
        pages[ROOT / "components" / name / "README.md"] = _component_page(name, component)
    return pages


def _component_page(name: str, component: PythonComponent) -> str:
    docstring = docstring_parser.parse(component.python_func.__doc__)
    metadata = yaml.safe_load((ROOT / "components" / name / "metadata.yaml").read_text())
    descriptions = {item.arg_name: item.description or "" for item in docstring.params}
    inputs, outputs = component.component_spec.inputs or {}, component.component_spec.outputs or {}
    # The spec describes named return values, but neither output artifacts nor an unnamed return value.
    descriptions |= {key: spec.description for key, spec in outputs.items() if spec.description}
    if docstring.returns:
        descriptions.setdefault("Output", docstring.returns.description or "")
    input_rows = [[f"`{key}`", _type(spec), _default(spec), descriptions[key]] for key, spec in inputs.items()]
    output_rows = [[f"`{key}`", _type(spec), descriptions.get(key, "")] for key, spec in outputs.items()]
    lines = [f"# {name}", "", docstring.short_description or ""]
    if docstring.long_description:
        lines += ["", docstring.long_description]
    if input_rows:
        lines += ["", "## Inputs", "", *_table(["input", "type", "default", "description"], input_rows)]
    if output_rows:
        lines += ["", "## Outputs", "", *_table(["output", "type", "description"], output_rows)]
    required = [f"{key}={key}" for key, spec in inputs.items() if not spec.optional]
    arguments = ", ".join(required)
    if len(f"task = {name}({arguments})") > _LINE:
        arguments = "\n" + "".join(f"    {argument},\n" for argument in required)
    metadata |= {"arguments": arguments, "tags": ", ".join(metadata["tags"])}
    return "\n".join(lines) + _USAGE.format(**metadata)


def _parameters_page() -> str:
    lines = [_PARAMETERS_HEAD]
    for name, pipeline in PIPELINES.items():
        inputs = pipeline.component_spec.inputs
        rows = [[f"`{key.upper()}`", _default(spec), spec.description] for key, spec in inputs.items()]
        lines += ["", f"## {name}", "", pipeline.description, ""]
        lines += _table(["parameter", "default", "description"], rows)
    return "\n".join(lines) + "\n"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _type(spec: Any) -> str:
    name = spec.type.removeprefix("system.").removeprefix("typing.").partition("@")[0]
    return f"List[{name}]" if spec.is_artifact_list else name


def _default(spec: Any) -> str:
    if not spec.optional:
        return "required"
    return "" if spec.default in (None, "", [], {}) else f"`{json.dumps(spec.default).strip(chr(34))}`"


def main() -> None:
    """Write the pages that changed."""
    configure_logging()
    for path, text in generate_pages().items():
        if not path.is_file() or path.read_text() != text:
            with atomic_write(path) as temporary:
                temporary.write_text(text)
            _log.info("%s", path.relative_to(ROOT))


if __name__ == "__main__":
    main()
