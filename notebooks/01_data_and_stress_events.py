# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Half of the 30 worst days lie in 14 events that cover 2.4 % of the sessions
#
# **Question.** What data does the demo have, what did the gate find in them, and where is the stress?

# %%
import numpy as np
import pandas as pd
from calibrator.config import Config
from calibrator.data.events import events_between
from calibrator.data.sources import load_bars

config = Config.model_validate(
    {"data": {"source": "embedded", "bar": "1d", "calendar": "sessions", "on_missing": "drop"}}
)
bars, findings = load_bars(config, as_of=None)
bars.groupby("market")["time"].agg(["min", "max", "count"])

# %% [markdown]
# The gate names every row that it refused, corrected or dropped; nothing is filled in.

# %%
findings

# %% [markdown]
# Daily moves, and the catalogue of dated stress events with their sources.

# %%
moves = bars.assign(move=np.log(bars["close"]).groupby(bars["market"]).diff()).dropna(subset="move")
worst = moves.loc[moves["move"].abs().groupby(moves["market"]).nlargest(10).index.get_level_values(1)]
worst[["market", "time", "move"]].sort_values("move")

# %%
first, last = bars["time"].min().date(), bars["time"].max().date()
events = events_between(first, last, ["SPX", "NASDAQ", "WTI"])
pd.DataFrame([{"event": e.name, "from": e.start, "to": e.end, "affects": ", ".join(e.affects)} for e in events])

# %% [markdown]
# How many of the ten worst days of each market lie inside an event of the catalogue?

# %%
def inside(day) -> bool:
    return any(e.start <= day <= e.end for e in events)


counted = worst.assign(inside=worst["time"].dt.date.map(inside)).groupby("market")["inside"].agg(["sum", "count"])
counted

# %%
# The title holds.
share = bars["time"].dt.date.map(inside).mean()
assert counted["sum"].sum() / counted["count"].sum() == 15 / 30
assert len(events) == 14
assert round(100 * share, 1) == 2.4
share
