"""``python -m pipelines protocols <what>``: payloads of protocols, checked and documented."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from calibrator.errors import PublishError
from pipelines.terminal import AS_OF, DEBUG, HOME, WRITE_DOCS, parse_time, reported

app = typer.Typer(no_args_is_help=True, help="Check a protocol's payload, or write its documentation.")
DOCS: Final = Path("docs/protocols")
PROTOCOL = typer.Option("--protocol", help="As in docs/protocols.", show_default=False)
STATE = typer.Option("--state", help="JSON file of what the target holds.", show_default=False)
PAYLOAD = typer.Argument(help="The payload, as published.", show_default=False)


@app.command()
def check(
    payload: Annotated[Path, PAYLOAD],
    protocol: Annotated[str, PROTOCOL],
    state: Annotated[Path, STATE],
    as_of: Annotated[str | None, AS_OF] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Say what a payload would change, and whether the target would take it now.

    Example: `python -m pipelines protocols check payloads/aave-v3.json --protocol aave-v3 --state aave.json`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from pipelines.payloads import check_payload  # noqa: PLC0415 - keeps --help fast

        at = parse_time(as_of) if as_of else now
        update = check_payload(protocol, state, payload, at=at)
        console.print(update.header.text(), markup=False, highlight=False, soft_wrap=True)
        for action in update.actions:
            console.print(f"  {action!r}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"{len(update.actions)} changes, all of which the target would take")


@app.command()
def pages(
    home: Annotated[Path, HOME] = Path("home"),
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002 - a command-line flag
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Write one page per protocol, with the example of the document published in HOME.

    Example: `python -m pipelines protocols pages --home home`

    Without `--write-docs` the pages go to `HOME/protocols/`.
    """
    console = Console()
    with reported(debug=debug):
        from calibrator.publish.adapters.intent import intent_of  # noqa: PLC0415 - keeps --help fast
        from calibrator.publish.repository import latest  # noqa: PLC0415
        from pipelines.protocol_pages import write_pages  # noqa: PLC0415

        document = latest(home)
        if document is None:
            raise PublishError(f"{home}: nothing is published; `python -m pipelines run` does it")
        folder = DOCS if write_docs else home / "protocols"
        for path in write_pages(intent_of(document), states=DOCS / "states", folder=folder):
            console.print(str(path), markup=False, highlight=False, soft_wrap=True)
