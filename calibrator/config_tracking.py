"""The ``tracking`` section: whether and where jobs are logged in MLflow."""

from pydantic import Field

from calibrator.config_base import Section


class TrackingConfig(Section):
    """Where jobs are logged."""

    enabled: bool = Field(default=True, description="false: no job logs anything or imports MLflow")
    uri: str | None = Field(
        None, description="MLflow tracking URI, env:NAME or secret:/file; default: SQLite in the home folder"
    )
    artifacts: str | None = Field(
        None,
        description="where new files go, as s3://bucket/path; default: a server's choice, or the home",
    )
    experiment: str = Field("margin-calibrator", min_length=1, max_length=120)
