"""``benchmark announced``: what an announced tightening invites, on simulated accounts and on vaults."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from calibrator.backtest.exploits_table import LATE, NOTICE, PROMPT
from calibrator.backtest.report import records
from calibrator.config import Config
from calibrator.errors import ConfigError
from pipelines.announced import Announced, announced
from pipelines.backtesting import replays_of
from pipelines.benchmarks.forecast_pages import machine, pipe_table
from pipelines.executor import SERIAL
from pipelines.forecasting import Progress
from pipelines.loading import load
from pipelines.producing import produced
from pipelines.recorded import vault_backtest
from pipelines.report.announced import announced_drawing, drawing_name, hunting_table, rows_table
from pipelines.report.tables import Table
from pipelines.report.words import number, percent
from pipelines.store import save, save_json

VARIANTS: Final[Mapping[str, Mapping[str, float]]] = {
    "as configured": {},
    "notice three times as long": {"notice": 3},
    "nobody reacts": {"reacting": 0.0},
    "everybody reacts": {"reacting": 1.0},
    "near: 1.1 times the equity asked": {"near": 1.1},
    "near: twice the equity asked": {"near": 2.0},
    "the hunter gets half of the penalty": {"fee": 0.5},
    "a third of the depth": {"impact": math.sqrt(3)},
    "three times the depth": {"impact": 1 / math.sqrt(3)},
}
"""One assumption moved at a time: ``notice`` and ``impact`` by a factor, the others to a value."""
SAID: Final = (
    "The same changes without notice (`no notice`: in force at once; `in force as late`: as late as with",
    "notice, but nobody knows), with it, and exploited. Owners who react add what a tightening asks before",
    "it is in force and take it back later: no change moves the price at which they are liquidated. Owners",
    "who leave (the stated share of all, drawn once) close at the announcement when they hold less than",
    "`near` times the equity newly asked, at market: what they sell, net, moves the bar's worst price by the",
    "square-root law, and whom that liquidates joins the flow. A hunter pushes the price between the",
    "announcement and the bar after the effect, on the better side, where the penalty on what only the push",
    "liquidates exceeds the cost of the push, `2/3 Q x` with `Q = V (x / (Y sigma))^2`, the law behind the",
    "haircuts' bound on manipulation. Without notice the hunter learns a threshold when it is in force. The",
    "hunter's revenue is an upper bound: the push comes at the bar's worst price, the penalty is the",
    "hunter's, and `V` is the volume of one venue. A displacement lasts one bar; what is liquidated is",
    "settled at the recorded prices. Much of what a hunter takes the price takes a little later: compare",
    "`liquidated`. In the second table every change stands by itself; `no change`: the margin stays as it",
    "was, and hunting pays anyway. Bad debt and amounts are in quote units over the whole backtest.",
)


@dataclass(frozen=True, slots=True)
class Study:
    """One configuration.

    Attributes
    ----------
    title : str
        Name of the configuration.
    made : dict of str to Announced
        By whose accounts are meant.
    variants : dict of str to pandas.DataFrame
        One assumption moved at a time, see ``VARIANTS``.
    bar : str
        Length of a bar.
    """

    title: str
    made: dict[str, Announced]
    variants: dict[str, pd.DataFrame]
    bar: str


def run(config: Config, *, title: str, home: Path, as_of: datetime | None, progress: Progress) -> Study:
    """Produce a schedule once, exploit its changes, and move every assumption.

    Parameters
    ----------
    config : Config
    title : str
    home : pathlib.Path
        Whose memory of earlier runs is used.
    as_of : datetime, optional
        Later bars are not looked at.
    progress : callable
        Called with (what, done, total).

    Raises
    ------
    ConfigError
        There is nothing to exploit: no simulated account, no vault, no depth, or it is switched off.
    """
    loaded = load(config, as_of=as_of)
    production = produced(config, loaded, home=home, progress=progress)
    _, population, given = replays_of(production, loaded.bars, SERIAL)
    vaults = vault_backtest(production, loaded.bars) if config.backtest.vaults is not None else None

    rows: dict[str, dict[str, dict[str, float]]] = {}
    first: dict[str, Announced] = {}
    for done, (name, changes) in enumerate(VARIANTS.items()):
        progress("announced changes", done, len(VARIANTS))
        moved = replace(production, config=moved_by(config, changes))
        made = announced(moved, given, population, vaults)
        first = first or made
        for who, found in made.items():
            rows.setdefault(who, {})[name] = figures(found)
    progress("announced changes", len(VARIANTS), len(VARIANTS))
    if not first:
        raise ConfigError(f"{title}: no account, vault or depth is there, or backtest.announced is off")
    tables = {who: pd.DataFrame.from_dict(own, orient="index") for who, own in rows.items()}
    return Study(title, first, tables, config.data.bar)


def moved_by(config: Config, changes: Mapping[str, float]) -> Config:
    """Return a configuration with some assumptions moved.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded"}, "forecast": {"cadence": 24}})
    >>> moved_by(config, {"notice": 3}).backtest.announced.notice
    72
    >>> moved_by(config, {"impact": 2}).margin.impact
    2.0
    """
    own, accounts, margin = config.backtest.announced, config.backtest.accounts, config.margin
    notice = own.notice or margin.notice or config.forecast.cadence
    settings: dict[str, object] = {name: x for name, x in changes.items() if name in {"near", "fee"}}
    if "notice" in changes:
        settings["notice"] = round(notice * changes["notice"])
    reacting = {"reacting": changes.get("reacting", accounts.reacting)}
    backtest = {
        "announced": own.model_copy(update=settings),
        "accounts": accounts.model_copy(update=reacting),
    }
    impact = {"impact": margin.impact * changes.get("impact", 1.0)}
    return config.model_copy(
        update={
            "backtest": config.backtest.model_copy(update=backtest),
            "margin": margin.model_copy(update=impact),
        }
    )


def figures(made: Announced) -> dict[str, float]:
    """Return the figures that tell whether a result holds when an assumption is moved."""
    rows, config = made.rows, made.setting.config
    out = {
        "by_change_at_once": float(rows.loc[PROMPT, "share"]),
        "by_change_unannounced": float(rows.loc[LATE, "share"]),
        "by_change_announced": float(rows.loc[NOTICE, "share"]),
    }
    exits = sorted(config.exits)
    if exits:
        row = f"notice, exit {100 * exits[len(exits) // 2]:g} %"
        out |= {"left": float(rows.loc[row, "left"]), "by_exit": float(rows.loc[row, "by_exit"])}
    if config.pushes:
        push = min(config.pushes)
        pays = made.hunting["pays"].xs(push, level="push")
        out |= {f"pays, {name}": float(pays[name]) for name in ("no change", "no notice", NOTICE)}
        hunted = f"notice, hunting {100 * push:g} %"
        out |= {
            "taken": float(rows.loc[hunted, "taken"]),
            "liquidated": float(rows.loc[hunted, "liquidated"]),
        }
    return out


def variants_table(variants: pd.DataFrame) -> Table:
    """Return what the result depends on."""
    shares = [c for c in variants if c.startswith("by_change")]
    rows = [
        [str(name), *(percent(r[c]) if c in shares else number(r[c]) for c in variants)]
        for name, r in variants.to_dict("index").items()
    ]
    words = {
        "by_change_at_once": "share by changes, at once",
        "by_change_unannounced": "as late, unannounced",
        "by_change_announced": "announced",
        "left": "left (middle share)",
        "by_exit": "liquidated by its impact",
        "taken": "taken by the smallest push, announced",
        "liquidated": "liquidated with it",
    }
    heads = (
        f"changes at which the smallest push {c}" if c.startswith("pays") else words[c] for c in variants
    )
    return Table(("assumption", *heads), rows)


def page(studies: list[Study], *, made_on: date, command: str) -> str:
    """Spell the studies in Markdown."""
    lines = [
        "# Announced changes that people exploit",
        "",
        f"{made_on}; {machine()}.",
        "",
        f"`{command}`",
        "",
    ]
    lines += SAID
    for study in studies:
        for who, made in study.made.items():
            lines += [
                "", f"## {study.title}: {who}", "", _assumed(study, made), "", f"**{made.conclusion()}**", "",
                f"![worlds]({picture(study, who)})", "", *_spelled(rows_table(made.rows)), "",
                *_spelled(hunting_table(made.hunting)), "",
                "What this depends on, one assumption moved at a time:", "",
                *_spelled(variants_table(study.variants[who])),
            ]  # fmt: skip
    return "\n".join([*lines, ""])


def _assumed(study: Study, made: Announced) -> str:
    setting, config = made.setting, made.setting.config
    depth = "the depth of the market's own volume"
    if made.simulated:
        depth = "a market whose mean volume between two decisions is the accounts' mean open notional"
        depth += "" if config.open_interest == 1 else f" over {config.open_interest:g}"
    reward = percent(config.fee * setting.penalty, 1)
    return (
        f"Bars of {study.bar}, notice {made.notice}, {percent(setting.reacting, 0)} of the owners "
        f"react, near is {config.near:g}, the hunter gets {reward} of what is taken; {depth}."
    )


def picture(study: Study, who: str) -> str:
    """Return the file name of one figure."""
    return f"{drawing_name(who)}-{study.title}.png"


def _spelled(table: Table) -> list[str]:
    frame = pd.DataFrame(table.rows, columns=range(len(table.head)))
    return ["| " + " | ".join(table.head) + " |", *pipe_table(frame.set_index(0))[1:]]


def write(
    studies: list[Study], *, home: Path, made_on: date, command: str, docs: Path | None = None
) -> dict[str, Path]:
    """Write page, figures and numbers to ``home/benchmarks/announced/``, the first two also to ``docs``."""
    folder, out = home / "benchmarks" / "announced", {}
    text = page(studies, made_on=made_on, command=command)
    content: dict[str, Any] = {
        s.title: {
            who: made.summary()
            | {"variants": records(s.variants[who].rename_axis("assumption").reset_index())}
            for who, made in s.made.items()
        }
        for s in studies
    }
    drawn = {
        picture(s, who): announced_drawing(who, made).png() for s in studies for who, made in s.made.items()
    }
    for place in [folder] if docs is None else [folder, docs]:
        place.mkdir(parents=True, exist_ok=True)
        what = "committed " if place == docs else ""
        out[f"{what}table"] = save(place / "announced.md", text)
        for name, png in drawn.items():
            out[f"{what}{name}"] = save(place / name, png)
    out["numbers"] = save_json(folder / "announced.json", content)
    return out
