# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 16 of 16 flipped bits are refused: a consumer believes signatures, versions and dates, never a file
#
# **Question.** How does a protocol check what it receives, and what happens to a forgery?
# Needs a finished run: `make run` (or point `CALIBRATOR_HOME` at a home).

# %%
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from calibrator.errors import CalibratorError
from calibrator.publish.client import anchor, verify

home = Path(os.environ.get("CALIBRATOR_HOME", "../home"))
work = Path(tempfile.mkdtemp())
shutil.copytree(home / "published", work / "published")
sorted(str(p.relative_to(work)) for p in (work / "published").rglob("*") if p.is_file())

# %% [markdown]
# The consumer trusts one file, received out of band: the first root of trust.

# %%
trusted = work / "trusted"
trusted.mkdir()
anchor(trusted, (work / "published" / "metadata" / "1.root.json").read_bytes())
now = datetime.now(UTC)
issued = datetime.strptime(max((home / "runs").glob("*/parameters.json")).parent.name, "%Y%m%dT%H%M%SZ")
as_of = issued.replace(tzinfo=UTC)  # the demo's data end in 2019: does the document hold at that time?
document = verify(work / "published", trusted=trusted, now=now, as_of=as_of)
document.sequence, document.issued_at, document.expires_at

# %%
[(m.symbol, m.role, m.value_ppm, m.reasons[0]) for m in document.markets]

# %% [markdown]
# Now somebody changes one bit of the document, at sixteen places.

# %%
(target,) = [p for p in (work / "published").rglob("*parameters.json")]
whole, refusals = target.read_bytes(), []
for number in range(16):
    content = bytearray(whole)
    content[(number * len(whole)) // 16] ^= 1 << (number % 8)
    target.write_bytes(bytes(content))
    try:
        verify(work / "published", trusted=trusted, now=now, as_of=as_of)
    except CalibratorError as error:
        refusals.append(error)
type(refusals[0]).__name__, str(refusals[0])[:120]

# %%
# The title holds, and the document that nobody touched is still believed.
assert len(refusals) == 16
assert {refused.exit_code for refused in refusals} <= {7, 8}
target.write_bytes(whole)
assert verify(work / "published", trusted=trusted, now=now, as_of=as_of) == document
shutil.rmtree(work)
