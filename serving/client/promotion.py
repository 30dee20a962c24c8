"""Move a version label on running servers without a lost request: promote and roll back.

TF Serving updates labels before it loads versions, and refuses a file that moves a label to a version that is not
loaded (model_servers/server_core.cc, ReloadConfig and UpdateModelVersionLabelMap). So the file changes three times: the
version is added; once every replica has loaded it, the label moves; once every replica answers the label with it, the
versions out of use are dropped. Each step depends on the file and the servers alone: the same call again continues.
"""

import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from components.runtime.errors import InputError
from serving.client.endpoint import Endpoint
from serving.client.replicas import LoadError, Replicas, reload, require_label, require_version
from serving.versions.labels import Action, VersionLabels, check_label

_POLL_S = 1.0
Say = Callable[[str], Any]


def promote(
    labels: VersionLabels,
    version: int,
    label: str,
    *,
    why: str,
    who: str | None = None,
    replicas: Replicas | None = None,
    timeout_s: float = 0.0,
    say: Say = print,
) -> bool:
    """Point `label` at `version`.

    Args:
        labels: the `models.config` that the servers follow.
        version: the version's number.
        label: the version label, such as `stable`.
        why: the reason, for the ledger.
        who: who decided, for the ledger; by default the user.
        replicas: the servers that follow the file; None if there are none, or the label is new.
        timeout_s: how long each step may take; with 0, the call returns after the first step that takes time.
        say: receives a line for each step done, and what comes next.

    Returns:
        Whether all steps are done.

    Raises:
        InputError: The version does not exist, is damaged or cannot be loaded, a server refuses the file, or not every
            replica followed in time.
    """
    check_label(label)
    return _Move(labels, version, label, "promote", why, who).run(replicas, timeout_s, say)


def rollback(
    labels: VersionLabels,
    label: str,
    *,
    why: str,
    who: str | None = None,
    replicas: Replicas | None = None,
    timeout_s: float = 0.0,
    say: Say = print,
) -> bool:
    """Point `label` back at the version before the present one, which the servers still have; as `promote`."""
    return _Move(labels, labels.previous(label), label, "rollback", why, who).run(replicas, timeout_s, say)


@dataclass(frozen=True)
class _Move:
    labels: VersionLabels
    version: int
    label: str
    action: Action
    why: str
    who: str | None

    def run(self, replicas: Replicas | None, timeout_s: float, say: Say) -> bool:
        labels, label = self.labels, self.label
        before = labels.current().get(label)
        if before == self.version:
            say(f"{labels.config_file}: {label} of {labels.model} is version {self.version} already")
            if replicas is None:
                return True
        else:
            if replicas is not None and not self._load(replicas, timeout_s, say):
                return False
            if labels.current().get(label) != before:
                raise InputError(f"{labels.config_file}: another command moved {label} meanwhile; see `versions list`")
            labels.move(self.version, label, why=self.why, who=self.who, action=self.action)
            say(f"{labels.config_file}: {label} of {labels.model} is version {self.version}")
        if replicas is not None and not self._follow(replicas, timeout_s, say):
            return False
        if labels.prune() and replicas is not None:
            replicas.publish(labels.config_file)
        return True

    def _load(self, replicas: Replicas, timeout_s: float, say: Say) -> bool:
        """Add the version to the file; return whether every replica has loaded it."""
        labels, version = self.labels, self.version

        def check(server: Endpoint) -> None:
            require_version(server, labels.model, version)

        earlier = _load_errors(replicas.failures(check))  # of an earlier attempt: the server keeps them
        added = labels.add(version)
        text = replicas.publish(labels.config_file)
        failures = wait_for(replicas, check, timeout_s, earlier if added else set())
        if _load_errors(failures) and (timeout_s or not added):
            labels.prune()  # a server that starts with a version that cannot be loaded may not start at all
            replicas.publish(labels.config_file)
            raise InputError(f"version {version} cannot be loaded: {_join(failures)}; export it again")
        if not failures:
            say(f"version {version} is loaded on every server")
            return True
        if timeout_s:
            raise InputError(
                f"version {version} is not loaded on every server after {timeout_s:g} s: "
                f"{_explain(replicas, failures, text)}; fix the cause and run the same command again"
            )
        say(
            f"{labels.config_file}: version {version} is in the file, {self.label} unchanged ({_join(failures)}); load "
            "it on the servers (on a cluster: `make deploy`), then run the same command again"
        )
        return False

    def _follow(self, replicas: Replicas, timeout_s: float, say: Say) -> bool:
        """Return whether every replica answers the label with the version."""
        labels, label, version = self.labels, self.label, self.version
        text = replicas.publish(labels.config_file)
        failures = wait_for(replicas, lambda server: require_label(server, labels.model, label, version), timeout_s)
        if not failures:
            say(f"every server answers {label} with version {version}")
            return True
        again = f"`versions promote --version {version} --label {label}` checks again"
        if timeout_s:
            raise InputError(
                f"{label} is not version {version} on every server after {timeout_s:g} s: "
                f"{_explain(replicas, failures, text)}; fix the cause or restart these servers; {again}"
            )
        say(f"not yet on every server ({_join(failures)}); load {labels.config_file} on the servers; {again}")
        return False


def wait_for(
    replicas: Replicas, check: Callable[[Endpoint], None], timeout_s: float, earlier: Set[str] = frozenset()
) -> dict[str, InputError]:
    """Wait until every replica passes a check, one fails to load, or the time is up; return the errors by replica.

    `earlier` names the replicas whose load error is of an earlier attempt, until they report something else.
    """
    deadline = time.monotonic() + timeout_s
    while failures := replicas.failures(check):
        failed = _load_errors(failures)
        earlier = earlier & failed
        if failed - earlier or time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    return failures


def _load_errors(failures: Mapping[str, InputError]) -> set[str]:
    return {name for name, error in failures.items() if isinstance(error, LoadError)}


def _explain(replicas: Replicas, failures: Mapping[str, InputError], config_text: str) -> str:
    """Join what replicas say, with their answers to the content of the file that they should follow."""
    refusals = replicas.failures(lambda server: reload(server, config_text))
    answers = {name: refusals.get(name, "accepted") for name in failures}
    return _join({name: f"{error}; given the content of the file: {answers[name]}" for name, error in failures.items()})


def _join(reasons: Mapping[str, object]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
