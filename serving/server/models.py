"""All models of a server, kept in step with their folders and with a `models.config`.

Changes are prepared separately and published in one assignment, and requests never wait for them: a request keeps the
version it started with, even while that version is unloaded.
"""

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from components.runtime.errors import InputError
from serving.server.errors import RequestError, failed_precondition, invalid_argument, not_found
from serving.server.model import Model, ModelRequest, Status
from serving.versions.model_config import ModelConfig, read_model_config
from serving.versions.saved_model import SavedModel

_log = logging.getLogger(__name__)


class ModelRegistry:
    """All models of a server. One thread at a time changes them; requests never wait."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._change_lock = threading.Lock()

    def reload(self, configs: Iterable[ModelConfig]) -> None:
        """Serve exactly these models; load all new versions before publishing any.

        Raises:
            RequestError: A model has no loadable version, or a label points at a missing one; nothing changes.
        """
        with self._change_lock:
            updates = []
            try:
                for config in configs:
                    model = self._models.get(config.name)
                    if model is None or model.config.base != config.base:
                        model = Model(config)
                    versions = model.load(config)
                    updates.append((model, config, versions))
                    _require_versions(model, config, versions)
            except Exception:
                for model in self._models.values():
                    model.unload_unpublished()
                raise
            for model, config, versions in updates:
                model.publish(config, versions)
            self._models = {config.name: model for model, config, _ in updates}

    def refresh(self) -> None:
        """Publish new versions of all models."""
        with self._change_lock:
            for model in self._models.values():
                model.refresh()

    def resolve(self, request: ModelRequest) -> tuple[int, SavedModel]:
        """Return the version that a request selects.

        Raises:
            RequestError: INVALID_ARGUMENT for a missing name or an unknown label, NOT_FOUND otherwise.
        """
        return self._model(request, f"Servable not found for request: {request}").resolve(request)

    def statuses(self, request: ModelRequest) -> dict[int, Status]:
        """Return the status of the selected version, or of all versions of the model.

        Raises:
            RequestError: NOT_FOUND for an unknown model or version.
        """
        model = self._model(request, f"Could not find any versions of model {request.name}")
        version = model.resolve(request)[0] if request.label else request.version
        statuses = dict(model.statuses)
        if version is None or (version == 0 and 0 not in statuses):
            return statuses
        if version not in statuses:
            raise not_found(f"Could not find version {version} of model {request.name}")
        return {version: statuses[version]}

    def available_versions(self) -> dict[str, list[int]]:
        """Return the versions that answer requests, by model."""
        return {name: sorted(model.snapshot.versions) for name, model in self._models.items()}

    def _model(self, request: ModelRequest, not_found_message: str) -> Model:
        if not request.name:
            raise invalid_argument("ModelSpec has no name specified.")
        model = self._models.get(request.name)
        if model is None:
            raise not_found(not_found_message)
        return model


class Watcher:
    """A thread that applies changes of the version folders and of a `models.config`.

    Args:
        models: models to keep up to date.
        config_file: `models.config` to reload when it changes, or None.
        poll_s: interval between checks.
    """

    def __init__(self, models: ModelRegistry, config_file: Path | None, poll_s: float) -> None:
        self._models = models
        self._config_file = config_file
        self._config_text = self._read_config()
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the version it may be loading."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_s):
            try:
                self._reload_config()
                self._models.refresh()
            except Exception as error:  # such as a full disk or a vanished folder: try again at the next check
                _log.warning("cannot read the model folders: %s", error)

    def _reload_config(self) -> None:
        text = self._read_config()
        if self._config_file is None or text == self._config_text:
            return
        try:
            self._models.reload(read_model_config(self._config_file))
            _log.info("%s: reloaded", self._config_file)
        except (InputError, RequestError) as error:
            _log.warning("not reloaded, keeping the previous configuration: %s", error)
        self._config_text = text

    def _read_config(self) -> str | None:
        try:
            return None if self._config_file is None else self._config_file.read_text()
        except OSError:
            return None


def _require_versions(model: Model, config: ModelConfig, versions: list[int]) -> None:
    if not versions:
        errors = [status.error for status in model.statuses.values() if status.error]
        reason = "; ".join(errors) or f"no version folders in {config.base}"
        raise failed_precondition(f"no version of {config.name} can be served: {reason}")
    for label, version in config.labels.items():
        if version not in versions:
            raise failed_precondition(
                f"Request to assign label {label} to version {version} of model {config.name}, "
                "which is not currently available for inference"
            )
