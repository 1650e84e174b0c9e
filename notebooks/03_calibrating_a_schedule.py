# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A limit of 5 % a day lags the tail in 4 of 10 decisions, one of 40 % in fewer than 3 of 100
#
# **Question.** What do floor and speed limits do to a margin, and what does a slower schedule cost?
# Needs a finished run: `make run` (or point `CALIBRATOR_HOME` at a home).

# %%
import os
from pathlib import Path

import numpy as np
import pandas as pd

home = Path(os.environ.get("CALIBRATOR_HOME", "../home"))
run = max((home / "runs").glob("*/margins.parquet")).parent
margins = pd.read_parquet(run / "margins.parquet")
margins.groupby(["market", "side"])[["margin", "margin_unlimited"]].describe(percentiles=[0.5]).round(4)

# %% [markdown]
# `margin_unlimited` is the forecast tail; `margin` is what is published after the floor and the limits.

# %%
ratio = margins["margin"] / margins["margin_unlimited"]
pd.DataFrame({
    "raised by floor or slow decrease": (ratio > 1.001).groupby(margins["market"]).mean(),
    "held below the tail by a limit": (ratio < 0.999).groupby(margins["market"]).mean(),
}).round(3)

# %% [markdown]
# The same tail under tighter and looser limits: how often would the published margin lag the tail?

# %%
from calibrator.calibrate.procyclicality import limit
from calibrator.domain import ChangeLimits

one = margins[(margins["market"] == margins["market"].iloc[0]) & (margins["side"] == "long")]
target = one["margin_unlimited"].to_numpy()
rows = []
for increase in (0.05, 0.10, 0.20, 0.40):
    limits = ChangeLimits(increase, 0.05, 2.5 * increase, 3.5 * increase, 4.0)
    all_whole = np.ones(len(target), bool)
    published = limit(target, np.zeros(len(target)), limits=limits, whole=all_whole, complete=all_whole)
    rows.append({"max_increase": increase, "lags": np.mean(published < 0.999 * target),
                 "average": published.mean(), "largest daily rise": np.max(published[1:] / published[:-1] - 1)})
limited = pd.DataFrame(rows).set_index("max_increase")
limited.round(4)

# %% [markdown]
# A schedule is a plan: what is announced for the next decisions.

# %%
plan = pd.read_parquet(run / "plan.parquet")
plan[plan["origin"] == plan["origin"].max()]

# %%
# The title holds. The published schedule rises by at most 2 % a session, so that it liquidates next to nobody by
# itself; its floor and long-run pull keep it from lagging more than 1 decision in 7.
assert 0.35 < limited.loc[0.05, "lags"] < 0.45
assert limited.loc[0.40, "lags"] < 0.03
assert (ratio < 0.999).mean() < 1 / 7
