"""The calls to MLflow themselves, one per kind of journal entry; only ``pipelines.tracking`` uses them."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from pipelines.journal import Entry, Journal

ENVIRONMENT: Final = {
    # With its defaults the client stalls for minutes when the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
PARAMETERS_PER_CALL: Final = 100
METRICS_PER_CALL: Final = 1000
TABLES: Final = "mlflow.loggedArtifacts"
REFUSALS: Final = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "PERMISSION_DENIED"}


@dataclass(slots=True)
class Client:
    """A client of one store and the runs of one journal.

    Attributes
    ----------
    client : mlflow.MlflowClient
    experiment : str
        Identifier.
    journal : Journal
        Its ``runs`` are filled in as they are created.
    refused : bool
        Whether the last failure was the server's answer, not its silence.
    """

    client: Any
    experiment: str
    journal: Journal
    refused: bool = False

    @classmethod
    def open(cls, uri: str, journal: Journal) -> Self:
        """Connect, and find or make the experiment."""
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - takes seconds, and is not needed otherwise

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(journal.experiment)
        made = (
            client.create_experiment(journal.experiment, artifact_location=journal.artifacts)
            if found is None
            else found.experiment_id
        )
        return cls(client, str(made), journal)

    def send(self, entry: Entry) -> None:
        """Log one entry."""
        calls: dict[str, Callable[[Entry], None]] = {
            "start": self._start,
            "params": self._params,
            "metrics": self._metrics,
            "artifacts": self._artifacts,
            "tags": self._tags,
            "table": self._table,
            "dataset": self._dataset,
            "version": self._version,
            "end": self._end,
        }
        calls[entry.kind](entry)

    def _run(self, entry: Entry) -> str:
        return self.journal.runs[entry.run]

    def _start(self, entry: Entry) -> None:
        tags = dict(entry.content["tags"])
        if entry.run:
            tags["mlflow.parentRunId"] = self.journal.runs[""]
        made = self.client.create_run(
            self.experiment, run_name=entry.content["name"], tags=tags, start_time=entry.content.get("at")
        )
        self.journal.runs[entry.run] = str(made.info.run_id)

    def _params(self, entry: Entry) -> None:
        from mlflow.entities import Param  # noqa: PLC0415 - as above

        items = [Param(k, v) for k, v in entry.content.items() if k != "at"]
        for at in range(0, len(items), PARAMETERS_PER_CALL):
            self.client.log_batch(self._run(entry), params=items[at : at + PARAMETERS_PER_CALL])

    def _metrics(self, entry: Entry) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415 - as above
        from mlflow.utils.time import get_current_time_millis  # noqa: PLC0415

        now = entry.content.get("at") or get_current_time_millis()
        items = [Metric(key, value, now, step) for key, value, step in entry.content["values"]]
        for at in range(0, len(items), METRICS_PER_CALL):
            self.client.log_batch(self._run(entry), metrics=items[at : at + METRICS_PER_CALL])

    def _artifacts(self, entry: Entry) -> None:
        with TemporaryDirectory() as folder:
            for path, content in entry.files.items():
                file = Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            self.client.log_artifacts(self._run(entry), folder)

    def _tags(self, entry: Entry) -> None:
        for key, value in entry.content.items():
            if key != "at":
                self.client.set_tag(self._run(entry), key, value)

    def _table(self, entry: Entry) -> None:
        """Log a table as MLflow's own ``log_table`` does, which fails on strings of pandas 3."""
        run, name, columns = self._run(entry), entry.content["name"], entry.content["columns"]
        table = {"columns": list(columns), "data": [list(r) for r in zip(*columns.values(), strict=True)]}
        self._artifacts(Entry(entry.run, "artifacts", files={name: json.dumps(table).encode()}))
        known = json.loads(self.client.get_run(run).data.tags.get(TABLES, "[]"))
        self.client.set_tag(run, TABLES, json.dumps([*known, {"path": name, "type": "table"}]))

    def _dataset(self, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 - as above

        c = entry.content
        source = json.dumps({"uri": c["source"]})
        made = Dataset(c["name"], c["digest"], "local", source, profile=json.dumps(c["profile"]))
        tag = InputTag("mlflow.data.context", "bars")
        self.client.log_inputs(self._run(entry), datasets=[DatasetInput(made, [tag])])

    def _version(self, entry: Entry) -> None:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - as above

        c, run = entry.content, self._run(entry)
        try:
            self.client.get_registered_model(c["model"])
        except MlflowException:
            self.client.create_registered_model(c["model"])
        root = self.client.get_run(run).info.artifact_uri
        made = self.client.create_model_version(
            c["model"], f"{root}/{c['path']}", run_id=run, tags=c["tags"], await_creation_for=0
        )
        for alias in c["aliases"]:
            self.client.set_registered_model_alias(c["model"], alias, made.version)

    def _end(self, entry: Entry) -> None:
        run = self.journal.runs.get(entry.run)
        if run is not None:
            self.client.set_terminated(run, status=entry.content["status"], end_time=entry.content.get("at"))


def refused(error: Exception) -> bool:
    """Whether an error is the server's answer (trying again is pointless)."""
    return getattr(error, "error_code", None) in REFUSALS
