"""The consumer's command: `calibrator verify`, `show`, `diff` and `margin`.

It imports no pandas, numpy or mlflow (but `margin` numpy), and each command only what it needs. This is the
one module of the library that reads the wall clock.
"""

import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrator.errors import CalibratorError, ConfigError, PublishError

if TYPE_CHECKING:
    from types import ModuleType

    from calibrator.publish.document import ParameterDocument

INTERNAL = 9
app = typer.Typer(
    name="calibrator",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _read_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"a time must look like 2026-01-31T00:00:00Z or 2026-01-31, was {text!r}"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Location = Annotated[
    str, typer.Argument(help="A published folder, or its http(s) address.", show_default=False)
]
Source = Annotated[
    str,
    typer.Argument(help="A parameters.json, a published folder, or its http(s) address.", show_default=False),
]
Trusted = Annotated[
    Path, typer.Option(help="Your memory of what was trusted: one folder per repository.", show_default=False)
]
OptionalTrusted = Annotated[
    Path | None, typer.Option(help="Verify with this memory; needed for an address.", show_default=False)
]
RootFile = Annotated[
    Path | None,
    typer.Option("--root", help="1.root.json, received by a way you trust; needed the first time."),
]
FirstUse = Annotated[
    bool, typer.Option("--trust-on-first-use", help="The first time, believe the root that LOCATION offers.")
]
AsOf = Annotated[
    datetime | None,
    typer.Option(
        parser=_read_time, metavar="TIME", help="When the document is to be applied (UTC); default now."
    ),
]
TargetName = Annotated[str, typer.Option(help="Which document of the repository.")]
Protocol = Annotated[str | None, typer.Option(help="Refuse a document that is meant for another protocol.")]
Chain = Annotated[str | None, typer.Option(help="Refuse a document that is meant for another chain.")]
Loosening = Annotated[
    float | None,
    typer.Option(
        min=0.0, help="Refuse a value that loosens by a larger share, unless a second key approved it."
    ),
]
Payloads = Annotated[
    Path | None, typer.Option(help="Write the protocol payloads signed with the document into this folder.")
]
Output = Annotated[Path | None, typer.Option(help="Write the verified document here, atomically.")]


AccountFile = Annotated[
    Path, typer.Argument(help="JSON: positions, marks and collateral.", show_default=False)
]


@app.callback()
def _options(
    *, debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False
) -> None:
    """Check, read and compare signed margin and haircut parameters.

    \b
    First use, with the root file you received from the publisher:
      calibrator verify https://risk.example/published --trusted ~/.calibrator/demo --root 1.root.json
    Every time after:
      calibrator verify https://risk.example/published --trusted ~/.calibrator/demo --output parameters.json
    What it says, and what changes:
      calibrator show parameters.json
      calibrator diff old.json parameters.json

    \b
    Exit codes: 0 ok, 2 usage, 5 meant for another protocol or chain, or not approved, 6 folder in use,
    7 signature, expiry or rollback, 8 cannot be read or written, 9 internal. After 5, 7 and 8 keep the last
    good parameters; never loosen.
    """  # noqa: D301 # \b keeps click from reflowing the examples
    del debug  # read by main()


@app.command()
def verify(  # noqa: PLR0913 # each is an option of the command
    location: Location,
    *,
    trusted: Trusted,
    root: RootFile = None,
    trust_on_first_use: FirstUse = False,
    as_of: AsOf = None,
    name: TargetName = "parameters.json",
    protocol: Protocol = None,
    chain: Chain = None,
    max_loosening: Loosening = None,
    output: Output = None,
    payloads: Payloads = None,
) -> None:
    """Fetch the newest document and believe it only if every signature, date and version holds.

    What was accepted is remembered in the trusted folder: nothing older is accepted again, and the last good
    document stays there (documents/parameters.json) for when a newer one is refused.

    \b
    Examples:
      calibrator verify home/published --trusted trusted --root home/published/metadata/1.root.json
      calibrator verify https://risk.example/published --trusted trusted --protocol aave-v3 --chain eip155:1
      calibrator verify home/published --trusted trusted --as-of 2025-06-30
    """  # noqa: D301
    client = _client()
    if root is not None:
        client.anchor(trusted, _read_file(root))
    elif trust_on_first_use:
        client.anchor_on_first_use(trusted, location)
    try:
        verified = client.verify_all(
            location,
            trusted=trusted,
            now=datetime.now(UTC),
            as_of=as_of,
            name=name,
            audience=client.Audience(protocol, chain, max_loosening),
        )
    except PublishError:
        kept = client.last_good(trusted, name=name)
        if kept is not None:
            typer.echo(f"last good, now stale: {_describe(kept)}", err=True)
        raise
    for path, data in verified.targets.items() if payloads is not None else ():
        _write_file(payloads / path, data)
    if output is not None:
        _write_file(output, verified.payload)
    by = "" if verified.approved_by is None else f", approved by {verified.approved_by[:16]}"
    typer.echo(f"verified: {_describe(verified.document, verified.payload)}{by}")


@app.command()
def show(
    source: Source,
    *,
    trusted: OptionalTrusted = None,
    name: TargetName = "parameters.json",
) -> None:
    """Show a document as tables: market, regime, tiers or haircut, the plan ahead, and why.

    A file is only read, a folder is checked against its own root; with --trusted the document is verified as
    by `calibrator verify`.

    \b
    Examples:
      calibrator show home/published
      calibrator show parameters.json
      calibrator show https://risk.example/published --trusted trusted
    """  # noqa: D301
    from calibrator.publish.tables import show_document  # noqa: PLC0415 # rich, only where it is needed

    document, checked = _open(source, trusted, name)
    show_document(document, checked=checked, now=datetime.now(UTC))


@app.command()
def diff(old: Source, new: Source, *, name: TargetName = "parameters.json") -> None:
    """Compare two documents: what changes, by how many basis points, and for whom.

    \b
    Examples:
      calibrator diff yesterday.json parameters.json
      calibrator diff trusted/documents/parameters.json home/published
    """  # noqa: D301
    from calibrator.publish.tables import show_changes  # noqa: PLC0415

    show_changes(_open(old, None, name)[0], _open(new, None, name)[0])


@app.command()
def margin(
    account: Annotated[
        Path, typer.Argument(help="JSON: positions, marks and collateral.", show_default=False)
    ],
    source: Source,
    *,
    trusted: OptionalTrusted = None,
    name: TargetName = "parameters.json",
    as_json: Annotated[bool, typer.Option("--json", help="Print every number as JSON.")] = False,
) -> None:
    """Compute what an account must hold under a document, and why.

    Scenarios, offsets, add-ons and haircuts come from the document's portfolio section, marks and positions
    from the account's file (its keys: calibrator/portfolio/account_file.py). Exit code 3: the account breaks
    a rule or holds what the document does not know.

    \b
    Examples:
      calibrator margin account.json home/published
      calibrator margin account.json parameters.json --json
    """  # noqa: D301
    from calibrator.cli_margin import margin as compute  # noqa: PLC0415 # numpy and numba, only here

    document, _ = _open(source, trusted, name)
    compute(_read_file(account), document, source=str(account), as_json=as_json)


def main() -> None:
    """Run the command; every error of the world becomes one line on stderr and its exit code.

    Raises
    ------
    SystemExit
        Always, with 0 or the exit code that the help names.
    """
    debug = "--debug" in sys.argv[1:]
    try:
        app()
    except CalibratorError as error:
        _fail(error, str(error), error.exit_code, debug=debug)
    except Exception as error:  # noqa: BLE001 # the outermost boundary: nobody above can handle it
        _fail(error, f"internal error, --debug shows where: {error!r}", INTERNAL, debug=debug)


def _fail(error: Exception, message: str, code: int, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"calibrator: {type(error).__name__}: {message}", err=True)
    sys.exit(code)


def _open(source: str, trusted: Path | None, name: str) -> tuple["ParameterDocument", str]:
    """Read a document from a file, a folder or an address, and say how far it was checked."""
    from calibrator.publish.document import decode  # noqa: PLC0415

    if trusted is not None:
        return _client().verify(source, trusted=trusted, now=datetime.now(UTC), name=name), "verified"
    if source.startswith(("http://", "https://")):
        raise ConfigError(
            f"an address needs to be verified (verify --trusted DIR --output FILE), was {source}"
        )
    path = Path(source)
    if not path.is_dir():
        return decode(_read_file(path)), "signature not checked"
    from calibrator.publish.repository import read_published  # noqa: PLC0415

    folder = path / "published" if (path / "published").is_dir() else path
    document = read_published(folder, name=name)
    if document is None:
        raise PublishError(f"{folder} holds no document called {name}")
    return document, "checked against the folder's own root only"


def _read_file(path: Path) -> bytes:
    from calibrator.publish.canonical import MAX_BYTES  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)  # one more than is accepted, so that decode() can refuse it
    except OSError as error:
        raise PublishError(f"{path} cannot be read: {error.strerror}") from error


def _write_file(path: Path, data: bytes) -> None:
    from calibrator.publish.storage import write_atomically  # noqa: PLC0415

    try:
        write_atomically(path, data)
    except OSError as error:
        raise PublishError(f"{path} cannot be written: {error.strerror}") from error


def _describe(document: "ParameterDocument", payload: bytes | None = None) -> str:
    from calibrator.publish.canonical import digest  # noqa: PLC0415
    from calibrator.publish.document import encode  # noqa: PLC0415

    held = sum(market.status == "held" for market in document.markets)
    audience = (
        document.protocol if document.chain == "off-chain" else f"{document.protocol} on {document.chain}"
    )
    return (
        f"{audience} sequence {document.sequence}, {len(document.markets)} markets ({held} held), "
        f"valid {document.valid_from:%Y-%m-%d %H:%M} to {document.expires_at:%Y-%m-%d %H:%M} UTC, "
        f"sha256 {digest(payload or encode(document))[:16]}"
    )


def _client() -> "ModuleType":
    """Import the verifying client, without the software of cloud key stores.

    securesystemslib imports boto3 wherever it is installed, which takes half as long as everything else
    together; who only verifies needs none of it.
    """
    absent = "boto3" not in sys.modules
    if absent:
        sys.modules["boto3"] = None  # type: ignore[assignment] # how Python spells "cannot be imported"
    try:
        from calibrator.publish import client  # noqa: PLC0415
    finally:
        if absent:
            del sys.modules["boto3"]
    return client
