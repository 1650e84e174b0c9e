"""``python -m pipelines publish | refresh``: from a finished run to the signed repository."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal import APPROVE, AS_OF, CONFIG, DEBUG, HOME, SET, parse_time, reported


def publish(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: typer.Context,
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    approve: Annotated[Path | None, APPROVE] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Sign and publish what the newest run (or that of `--as-of`) made: after a refusal, or with approval.

    Example: `python -m pipelines publish --config pipelines/config/demo.yaml --approve approver.pem`

    A move above `publish.approve_tightening` or `publish.approve_loosening` needs the key of an approver.
    """
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415
        from pipelines.publish_job import publish as job  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else None
        done = job(settings, home=home, as_of=at, now=context.obj, approver=approve)
        state = "published" if done.new else "already published, nothing new"
        print(f"{state}: {done.document.protocol} sequence {done.document.sequence} from {done.source}")


def refresh(
    context: typer.Context,
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Sign what is published once more, so that its metadata do not expire; the parameters stay.

    Example: `python -m pipelines refresh --config pipelines/config/demo.yaml`
    """
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415
        from pipelines.publish_job import refresh as job  # noqa: PLC0415

        settings = load_config(config)
        job(settings, home=home, now=context.obj)
        print(f"signed again: {home / 'published'} holds for {settings.publish.metadata_days} days")
