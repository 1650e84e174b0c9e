"""``benchmark fuzz``: no update that our simulation passes is refused, clipped or beyond its bound."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final

import pandas as pd

from pipelines.benchmarks.forecast_pages import machine, pipe_table
from pipelines.benchmarks.fuzzing.campaign import LENDING, PERPETUALS, Tally, campaign
from pipelines.store import save

FULL: Final = 100_000
SEED: Final = 20_260_310
COLUMNS: Final = (
    "target", "pairs", "accepted by both", "refused by both", "stricter than the target",
    "refused by the target", "clipped", "beyond a bound", "rules that refuse",
)  # fmt: skip
EXPLAINED: Final = (
    "Each pair is a random state and a random update, half of the values at a bound or one beside it. Our",
    "simulation and an independent oracle of the protocol's own rules judge it. *Stricter*: refused by us",
    "although the target would take it (zero that means unlimited, values that are cut off or hold only",
    "later, liquidations that cannot pay). The three columns after it must be 0: passed by us but refused by",
    "the target, held with another value than asked, or beyond the bound that is promised.",
)


def run(*, scale: float, progress: Callable[[str, int, int], None]) -> dict[str, Tally]:
    """Return one tally per target, of ``scale`` times 100,000 pairs."""
    out, names = {}, sorted((*LENDING, *PERPETUALS))
    for number, name in enumerate(names):
        progress("targets", number, len(names))
        out[name] = campaign(name, pairs=max(1, round(FULL * scale)), seed=SEED)
    progress("targets", len(names), len(names))
    return out


def page(tallies: dict[str, Tally], *, made_on: date) -> str:
    """Return the tallies as Markdown."""
    rows = [
        (
            name,
            f"{t.pairs:,}",
            f"{t.both:,}",
            f"{t.neither:,}",
            f"{t.stricter:,}",
            len(t.refused_by_oracle),
            len(t.clipped),
            len(t.beyond),
            len(t.rules),
        )
        for name, t in tallies.items()
    ]
    table = pd.DataFrame(rows, columns=COLUMNS).set_index("target")
    total = sum(t.pairs for t in tallies.values())
    broken = sum(t.violations for t in tallies.values())
    return "\n".join(
        [
            "# Fuzzed updates against every target's rules",
            "",
            *EXPLAINED,
            "",
            f"**{broken} of {total:,} pairs break the promise.** Seed {SEED}, made on {made_on}.",
            "",
            machine(),
            "",
            *pipe_table(table),
            "",
            "Again: `python -m pipelines benchmark fuzz` (`--scale 0.01`: the sample of `make test`).",
            "",
        ]
    )


def write(tallies: dict[str, Tally], *, home: Path, made_on: date, docs: Path | None) -> dict[str, Path]:
    """Write the page into ``home/benchmarks`` and, if given, into ``docs``."""
    text = page(tallies, made_on=made_on)
    out = {}
    for what, folder in (("table", home / "benchmarks"), ("docs", docs)):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            out[what] = save(folder / "fuzz.md", text)
    return out
