"""A champion to hand on: its folder, checked, as data beside the code."""

import shutil
from pathlib import Path
from typing import Final

from calibrator.errors import DataError
from pipelines.champion import MANIFEST, POINTER, Champion, read_champion
from pipelines.store import save

LARGEST: Final = 1_000_000
"""Bytes of a model that is handed on: it is read by people and kept in version control."""


def ship(home: Path, to: Path) -> Champion:
    """Copy the champion of a home to another folder, in place of the one that was there.

    Parameters
    ----------
    home : pathlib.Path
        Its champion is read with every SHA-256 checked.
    to : pathlib.Path
        Receives ``champion.json`` and ``<id>/``; other files in it stay.

    Raises
    ------
    DataError
        There is no champion, it is not the accepted one, or it is larger than :data:`LARGEST`.
    """
    champion = read_champion(home)
    if champion is None:
        raise DataError(f"ship: {home / 'models'} has no champion; run `retrain` first")
    source = home / "models" / champion.id
    files = {path.name: path.read_bytes() for path in sorted(source.iterdir()) if path.is_file()}
    size = sum(len(content) for content in files.values())
    if size > LARGEST:
        raise DataError(f"ship: model {champion.id} must not exceed {LARGEST:,} bytes, was {size:,}")
    for old in sorted(to.glob(f"*/{MANIFEST}")):
        shutil.rmtree(old.parent)
    for name, content in files.items():
        save(to / champion.id / name, content)
    save(to / POINTER, (home / "models" / POINTER).read_bytes())
    return champion
