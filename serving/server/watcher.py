"""Looking at the version folders, and at the `models.config`, again and again."""

import threading
from collections.abc import Callable
from pathlib import Path

from components.runtime.errors import InputError
from serving.server.errors import RequestError
from serving.server.models import Models
from serving.versions.model_config import read_model_config


class Watcher:
    """A thread that keeps the models at what lies on disk.

    Args:
        models: what is served.
        config_file: a `models.config` that is followed too, or None.
        every_s: pause between two looks.
        tell: takes a line for the operator.
    """

    def __init__(self, models: Models, config_file: Path | None, every_s: float, tell: Callable[[str], None]) -> None:
        self._models = models
        self._config_file = config_file
        self._seen = self._config_text()
        self._every_s = every_s
        self._tell = tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the version that it may be loading."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._follow_config()
                self._models.refresh()
            except Exception as error:  # a full disk, a folder that vanished: the next look may do better
                self._tell(f"the model folders could not be read: {error}")

    def _follow_config(self) -> None:
        text = self._config_text()
        if self._config_file is None or text == self._seen:
            return
        try:
            self._models.reload(read_model_config(self._config_file))
            self._tell(f"{self._config_file}: taken over")
        except (InputError, RequestError) as error:
            self._tell(f"not taken over, the earlier configuration stays: {error}")
        self._seen = text

    def _config_text(self) -> str | None:
        try:
            return None if self._config_file is None else self._config_file.read_text()
        except OSError:
            return None
