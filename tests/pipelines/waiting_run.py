"""A local run as a process, whose only step starts a process and waits. Arguments: the folder of runs."""

import sys
from pathlib import Path
from unittest import mock

from kfp import dsl

from pipelines import cli
from pipelines.local import runs


@dsl.component(base_image="python", install_kfp_package=False)
def wait(source: str, model_base: str) -> None:
    from components.runtime.step import step_process

    with step_process():
        import subprocess
        import sys
        import tempfile
        import time

        tempfile.mkdtemp()
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(600)  # child of {source}"])
        print("waiting", flush=True)
        time.sleep(600)


@dsl.pipeline
def waiting(source: str, model_base: str, model_name: str = "m"):
    wait(source=source, model_base=model_base)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir()  # sources exist
    with mock.patch.dict(runs.PIPELINES, {"training": waiting}):
        cli.main(["run", "--runs", str(folder), f"source={folder}", "model_base=m"])
