"""LightGBM files of unknown origin: read in another process, because a damaged one ends the process."""

import json
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from calibrator.errors import DataError

LARGEST: Final = 200 << 20
SECONDS: Final = 60
MEMORY: Final = 4 << 30
READER: Final = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import lightgbm
booster = lightgbm.Booster(model_file=sys.argv[1])
first = booster.predict([[0.0] * booster.num_feature()])
print(json.dumps([booster.num_trees(), booster.feature_name(), float(first[0])]))
"""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a LightGBM file holds.

    Attributes
    ----------
    digest : str
        SHA-256 of the file.
    trees : int
    features : tuple of str
    """

    digest: str
    trees: int
    features: tuple[str, ...]


def inspect_foreign(path: Path) -> Foreign:
    """Read a LightGBM file that nobody vouches for; nothing of it reaches this process but the answer.

    Raises
    ------
    DataError
        It is missing, too large, no model, or its reader died, hung or ran out of memory.
    """
    try:
        size, content = path.stat().st_size, path.read_bytes() if path.stat().st_size <= LARGEST else b""
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if size > LARGEST:
        raise DataError(f"{path}: must not exceed {LARGEST} bytes, has {size}")
    command = [sys.executable, "-I", "-c", READER, str(path.absolute()), str(MEMORY)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path}: not read within {SECONDS} seconds") from error
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
        raise DataError(
            f"{path}: not a LightGBM model: its reader ended with {done.returncode}: {last[0][:160]}"
        )
    trees, features, _ = json.loads(done.stdout.splitlines()[-1])
    return Foreign(sha256(content).hexdigest(), int(trees), tuple(features))
