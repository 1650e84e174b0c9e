"""What followed each decision, beside the decisions themselves."""

import pandas as pd

from pipelines.production import Decisions


def with_outcomes(losses: pd.DataFrame, d: Decisions) -> pd.DataFrame:
    """Return a market's decisions with the worst loss of a long that followed, and when it was known.

    Parameters
    ----------
    losses : pandas.DataFrame
        ``market, origin, side, loss, known_at`` of a production.
    d : Decisions

    Returns
    -------
    pandas.DataFrame
        The decisions' table with ``loss_long`` and ``loss_known_at``.
    """
    own = losses[(losses["market"] == d.market) & (losses["side"] == "long")]
    worst = own.groupby("origin").agg(loss_long=("loss", "max"), loss_known_at=("known_at", "max"))
    return d.table.join(worst)
