# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # The schedule asks for over 10 % less margin than one that is retuned once a year, with no more bad debt
#
# **Question.** What happens to leveraged accounts on real prices under our schedule and under a static one?
# The accounts are **simulated** (seeded, stated leverage), the prices are not.
# Needs a finished run: `make run` (or point `CALIBRATOR_HOME` at a home).

# %%
import json
import os
from pathlib import Path

import pandas as pd

home = Path(os.environ.get("CALIBRATOR_HOME", "../home"))
run = max((home / "runs").glob("*/backtest.json")).parent
backtest = json.loads((run / "backtest.json").read_text())
backtest["verdict"]

# %% [markdown]
# First the statistics: how many losses exceeded the margin, against the share that was asked for.

# %%
pd.DataFrame(backtest["coverage"]["pooled"])

# %% [markdown]
# Then the replay: liquidations, shortfall and average margin of the same accounts under both schedules.

# %%
replay = backtest["replay"]
{k: v for k, v in replay.items() if k != "population"}

# %% [markdown]
# The worst days: what was lost, and what the margin was.

# %%
from calibrator.config import Config
from calibrator.data.sources import load_bars

config = Config.model_validate(
    {"data": {"source": "embedded", "bar": "1d", "calendar": "sessions", "on_missing": "drop"}}
)
bars, _ = load_bars(config, as_of=None)
margins = pd.read_parquet(run / "margins.parquet").query("side == 'long'")
length = int(margins["horizon"].iloc[0])
low = bars.groupby("market")["low"].transform(lambda x: x[::-1].rolling(length).min()[::-1].shift(-1))
loss = bars[["market"]].assign(origin=bars["time"], loss=1 - low / bars["close"])
both = margins.merge(loss, on=["market", "origin"]).assign(excess=lambda t: t["loss"] - t["margin"])
worst = both.nlargest(10, "excess")[["market", "origin", "loss", "margin", "excess"]].round(4)
worst

# %%
# The title holds, and so does the coverage that was asked.
ours, static = replay["schedules"]["calibrated"], replay["schedules"]["static"]
assert ours["average_margin"] < 0.9 * static["average_margin"]
assert ours["shortfall"] <= static["shortfall"]
assert all(row["coverage"] >= row["level"] for row in backtest["coverage"]["pooled"])
ours["average_margin"] / static["average_margin"], ours["shortfall"], static["shortfall"]
