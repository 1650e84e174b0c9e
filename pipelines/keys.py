"""``python -m pipelines keys <what>``: who may sign what."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.terminal import DEBUG, HOME, reported

if TYPE_CHECKING:
    from calibrator.publish.rotation import Keyring

ROLE_NAMES = ("root", "targets", "snapshot", "timestamp", "approver")
app = typer.Typer(no_args_is_help=True, help="Create, rotate and revoke signing keys.")
ROOT_KEYS = typer.Option("--root-keys", help="Folder of the root's keys, if not in HOME/keys.")
THRESHOLD = typer.Option("--threshold", help="`role=N`: N signatures of N keys (repeatable).")
ROLE = typer.Option("--role", help=f"One of {', '.join(ROLE_NAMES)}.")


@app.command()
def create(
    home: Annotated[Path, HOME] = Path("home"),
    role: Annotated[str | None, ROLE] = None,
    threshold: Annotated[list[str] | None, THRESHOLD] = None,
    root_keys: Annotated[Path | None, ROOT_KEYS] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Make all keys and the root that consumers receive; with `--role`, one more key for that role.

    Example: `python -m pipelines keys create --home home --threshold targets=2`
    """
    with reported(debug=debug):
        from calibrator.publish import rotation  # noqa: PLC0415 - keeps --help fast

        ring = _ring(home, root_keys)
        needed = _thresholds(threshold)
        if role is None:
            print(f"root for your consumers: {rotation.create(ring, needed)}")
            print(f"move root.pem and approver.pem out of {ring.keys}, to two people")
            return
        keyid = rotation.add(ring, _known(role), threshold=needed.get(role))
        print(f"{role} trusts {keyid}")


@app.command()
def rotate(
    role: Annotated[str, ROLE],
    home: Annotated[Path, HOME] = Path("home"),
    root_keys: Annotated[Path | None, ROOT_KEYS] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Replace every key of a role; what is published is signed again, and no consumer is refused meanwhile.

    Example: `python -m pipelines keys rotate --role timestamp`
    """
    with reported(debug=debug):
        from calibrator.publish import rotation  # noqa: PLC0415

        gone, came = rotation.rotate(_ring(home, root_keys), _known(role))
        print(f"{role} trusts {', '.join(came)} instead of {', '.join(gone)}")


@app.command()
def revoke(
    keyid: Annotated[str, typer.Argument(help="Id of the key, or its first 8 digits or more.")],
    home: Annotated[Path, HOME] = Path("home"),
    root_keys: Annotated[Path | None, ROOT_KEYS] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Trust a key no more, without a replacement.

    Example: `python -m pipelines keys revoke 1f3c9a02`
    """
    with reported(debug=debug):
        from calibrator.publish import rotation  # noqa: PLC0415

        roles = rotation.revoke(_ring(home, root_keys), keyid)
        print(f"{keyid} is trusted no more as {', '.join(roles)}")


@app.command()
def show(
    home: Annotated[Path, HOME] = Path("home"),
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """List the trusted keys of every role, the signatures that it needs, and when the root expires.

    Example: `python -m pipelines keys show`
    """
    with reported(debug=debug):
        from calibrator.publish import rotation  # noqa: PLC0415

        root, keys = rotation.trusted_keys(home)
        print(f"root {root.version} expires {root.expires:%Y-%m-%d}")
        for role, keyids in keys.items():
            needed = root.roles[role].threshold if role in root.roles else 1
            print(f"{role:>9}  {needed} of {len(keyids)}  {' '.join(keyids)}")


def _ring(home: Path, root_keys: Path | None) -> "Keyring":
    from calibrator.publish.rotation import Keyring  # noqa: PLC0415

    return Keyring(home, datetime.now(UTC), root_keys)


def _known(role: str) -> str:
    from calibrator.errors import ConfigError  # noqa: PLC0415

    if role not in ROLE_NAMES:
        raise ConfigError(f"--role must be one of {', '.join(ROLE_NAMES)}, was {role!r}")
    return role


def _thresholds(stated: list[str] | None) -> dict[str, int]:
    from calibrator.errors import ConfigError  # noqa: PLC0415

    found = {}
    for text in stated or ():
        role, _, number = text.partition("=")
        if not (number.isdecimal() and 1 <= int(number) <= 16):
            raise ConfigError(f"--threshold must be role=N with N from 1 to 16, was {text!r}")
        found[_known(role)] = int(number)
    return found
