"""Tables of the validation pack: settings, sensitivities, stress tests and the checklist."""

from collections.abc import Iterator
from typing import Final

import pandas as pd
from pydantic import BaseModel

from calibrator.config import Config
from pipelines.checklist import Check
from pipelines.knobs import UNMOVED
from pipelines.report.tables import Table
from pipelines.report.words import MISSING, number, p_value, percent
from pipelines.sensitivity import Sensitivity, spelled
from pipelines.stress import Stress

WORST: Final = 15
"""Windows that the table shows."""


def checks(listed: list[Check]) -> Table:
    """Return the checklist."""
    rows = [[c.area, c.rule, c.status, c.evidence] for c in listed]
    classes = [f"status-{c.status.replace(' ', '-')}" for c in listed]
    return Table(("area", "rule", "result", "evidence from this run"), rows, classes, text=4)


def settings(config: Config) -> Table:
    """Return every setting of margins and haircuts with its meaning, as configured."""
    rows = [
        [name, value, meaning]
        for section, model in (("margin", config.margin), ("haircut", config.haircut))
        for name, value, meaning in _settings(model, section)
    ]
    return Table(("setting", "value", "meaning"), rows, text=3)


def _settings(model: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{prefix}.{name}")
        elif name != "pairs":
            text = ", ".join(f"{v:,}" for v in value) if isinstance(value, tuple) else spelled(value)
            yield f"{prefix}.{name}", text, field.description or MISSING


def sensitivities(made: Sensitivity) -> Table:
    """Return what each parameter does, as changes against the run's own settings."""
    rows, classes = [], []
    for name, own in made.table.groupby("parameter", sort=False):
        whys = list(dict.fromkeys(w for w in own["why"] if w))
        for r in own[own["average_margin"].notna()].to_dict("records"):
            rows.append([str(name), f"{r['before']} → {r['after']}", *_effects(r, made.base), ""])
            classes.append("")
        if own["average_margin"].isna().all():
            rows.append([str(name), str(own["before"].iloc[0]), *[MISSING] * 5, ", ".join(whys)])
            classes.append("anchor")
    head = (
        "parameter", "move", "average margin", "covered", "shortfall, bp", "largest increase",
        "highest tier", "not moved because",
    )  # fmt: skip
    return Table(head, rows, classes)


def _effects(row: dict[object, object], base: dict[str, float]) -> list[str]:
    margin, top = (
        _signed(100 * (float(str(row[c])) / base[c] - 1), 2) + " %" for c in ("average_margin", "top_tier")
    )
    covered = _signed(100 * (float(str(row["coverage"])) - base["coverage"]), 2) + " points"
    short = _signed(float(str(row["shortfall_bp"])) - base["shortfall_bp"], 3)
    jump = _signed(100 * (float(str(row["largest_increase"])) - base["largest_increase"]), 1) + " points"
    return [margin, covered, short, jump, top]


def _signed(value: float, digits: int) -> str:
    """Spell a change with its sign; what rounds to nothing has none.

    Examples
    --------
    >>> _signed(0.123, 2), _signed(-0.001, 2), _signed(float("nan"), 1)
    ('+0.12', '0.00', '-')
    """
    if value != value:  # noqa: PLR0124 - NaN
        return MISSING
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def unmoved() -> Table:
    """Return the parameters that are not moved, and why."""
    return Table(("parameter", "why it is not moved"), [[k, v] for k, v in UNMOVED.items()], text=2)


def shortfalls(tails: pd.DataFrame) -> Table:
    """Return the expected-shortfall tests of the forecast tails."""
    rows = [
        [
            f"{r['market']}, {r['side']}",
            percent(r["level"], 1),
            number(r["observations"]),
            number(r["breaches"]),
            number(r["z1"], 3),
            p_value(r["z1_p_value"]),
            number(r["z2"], 3),
            p_value(r["z2_p_value"]),
            p_value(r["mcneil_frey_p_value"]),
            number(r["mean_excess"], 2),
        ]
        for r in tails.to_dict("records")
    ]
    head = (
        "market and side", "level", "losses", "beyond the quantile", "Z1", "p: Z1", "Z2", "p: Z2",
        "p: McNeil-Frey", "loss / expected shortfall beyond",
    )  # fmt: skip
    return Table(head, rows)


def windows(stress: Stress) -> Table:
    """Return the close-outs furthest beyond the margin of the day before."""
    own = stress.windows.assign(over=stress.windows["loss"] - stress.windows["margin_before"])
    own = own.sort_values(["over", "market"], ascending=[False, True], kind="stable").head(WORST)
    rows, classes = [], []
    for r in own.to_dict("records"):
        moved = "not within 60" if pd.isna(r["moved_after"]) else number(r["moved_after"])
        rows.append(
            [
                f"{r['market']}, {r['side']}",
                f"{r['origin']:%Y-%m-%d %H:%M}",
                percent(r["loss"]),
                percent(r["margin_before"]),
                percent(r["shortfall"]),
                percent(r["margin"]),
                moved,
                percent(r["highest"]),
            ]
        )
        classes.append("" if r["covered"] else "miss")
    head = (
        "market and side", "decision", "loss that followed", "margin of the day before", "shortfall",
        "margin of the decision itself", "decisions until 10 % higher", "highest within 60 decisions",
    )  # fmt: skip
    return Table(head, rows, classes, text=2)


def days(stress: Stress) -> Table:
    """Return the worst joint decisions."""
    rows = [
        [
            f"{r['origin']:%Y-%m-%d %H:%M}, {r['side']}",
            number(r["markets"]),
            percent(r["loss"]),
            percent(r["margin_before"]),
            percent(r["shortfall"]),
            percent(r["uncovered"], 0),
            str(r["worst"]),
        ]
        for r in stress.days.to_dict("records")
    ]
    head = (
        "decision and side", "entries", "mean loss", "mean margin of the day before", "mean shortfall",
        "uncovered", "furthest beyond",
    )  # fmt: skip
    return Table(head, rows)


def scenarios(stress: Stress) -> Table:
    """Return the made-up stress."""
    rows = [
        [
            str(r["scenario"]),
            percent(r["largest_move"], 1),
            number(r["standard_deviations"], 1),
            percent(r["uncovered"], 0),
            percent(r["shortfall"]),
            r["worst"] if isinstance(r["worst"], str) else MISSING,
            number(r["owed"]),
            percent(r["share_of_fund"], 0),
            _catch_up(r),
        ]
        for r in stress.scenarios.to_dict("records")
    ]
    head = (
        "scenario", "largest move", "standard deviations under past correlations", "entries uncovered",
        "mean shortfall", "furthest beyond", "owed by simulated accounts", "of the fund",
        "decisions until the limits allow it",
    )  # fmt: skip
    return Table(head, rows)


def _catch_up(row: dict[object, object]) -> str:
    if row["kind"] != "volatility":
        return MISSING
    return "more than 10" if pd.isna(row["decisions"]) else number(row["decisions"])


def breaks(stress: Stress) -> Table:
    """Return the nearest joint moves that use margins up, and that exhaust the fund."""
    rows = []
    for name, found in stress.breaks.items():
        side, which = name.split()
        what = "the first margin" if which == "first" else "every margin"
        rows.append([f"{what} of the {side} side is used up", number(found.distance, 2), _moves(found.moves)])
    if stress.fund is not None:
        moves = stress.fund["moves"]
        far = stress.fund["standard_deviations"]
        told = _moves(moves) if isinstance(moves, dict) else MISSING
        rows.append(["the fund is exhausted (simulated accounts)", number(far, 2), told])
    return Table(
        ("what breaks", "standard deviations", "largest moves of the nearest joint move"), rows, text=1
    )


def _moves(moves: dict[str, float]) -> str:
    largest = sorted(moves.items(), key=lambda item: (-abs(item[1]), item[0]))[:4]
    told = ", ".join(f"{market} {percent(move, 1)}" for market, move in largest)
    return told + (f" and {len(moves) - 4} more" if len(moves) > 4 else "")
