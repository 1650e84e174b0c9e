"""Add-ons for what scenarios of one price per underlying do not see: basis, funding, naked options, size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrator.domain import PPM
from calibrator.netting import PortfolioRules
from calibrator.portfolio.contracts import Table

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rates:
    """Add-ons of every underlying, fractions.

    Attributes
    ----------
    basis, funding, naked : numpy.ndarray, shape (U,)
    floors, steps : numpy.ndarray, shape (U, T)
        Concentration: notional above which each step of the add-on applies; infinite where unused.

    Examples
    --------
    >>> from calibrator.portfolio.fixed_grids import span_16
    >>> rates(span_16(("BTC",), price_range=0.12, volatility_range=0.25)).basis.tolist()
    [0.0]
    """

    basis: Array
    funding: Array
    naked: Array
    floors: Array
    steps: Array


def rates(rules: PortfolioRules) -> Rates:
    """Return the add-ons of the rules as arrays; see :class:`Rates`."""
    own = rules.underlyings
    tiers = max([1, *(len(u.concentration) for u in own)])
    floors, steps = np.full((len(own), tiers), np.inf), np.zeros((len(own), tiers))
    for i, u in enumerate(own):
        before = 0
        for j, tier in enumerate(u.concentration):
            floors[i, j] = float(tier.notional_floor)
            steps[i, j] = (tier.add_on_ppm - before) / PPM
            before = tier.add_on_ppm
    return Rates(
        basis=np.array([u.basis_ppm for u in own]) / PPM,
        funding=np.array([u.funding_ppm for u in own]) / PPM,
        naked=np.array([u.naked_option_ppm for u in own]) / PPM,
        floors=floors,
        steps=steps,
    )


@dataclass(frozen=True, slots=True)
class AddOns:
    """Add-ons of one account per underlying, quote currency, shape (U,) each.

    Attributes
    ----------
    basis : numpy.ndarray
        On the notional netted between buckets: half of what their exposures add up to beyond their sum.
    funding : numpy.ndarray
        On the net notional of perpetuals.
    naked : numpy.ndarray
        On the notional of options sold beyond those bought, calls and puts apart.
    concentration : numpy.ndarray
        By tiers, on the larger of net exposure and naked notional.

    Examples
    --------
    >>> float(AddOns(*[np.ones(1)] * 4).total)
    4.0
    """

    basis: Array
    funding: Array
    naked: Array
    concentration: Array

    @property
    def total(self) -> float:
        """Their sum."""
        return float(self.basis.sum() + self.funding.sum() + self.naked.sum() + self.concentration.sum())


def add_ons(contracts: Table, quantity: Array, charged: Rates) -> AddOns:
    """Return the add-ons of one account, at the maintenance level.

    Parameters
    ----------
    contracts : Table
    quantity : numpy.ndarray, shape (contracts,)
        Held, signed.
    charged : Rates

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract, table
    >>> held = table((Contract("BTC", "spot", 100.0), Contract("BTC", "perpetual", 100.0)), ("BTC",))
    >>> half = Rates(*[np.array([0.5])] * 3, np.full((1, 1), np.inf), np.zeros((1, 1)))
    >>> made = add_ons(held, np.array([1.0, -1.0]), half)
    >>> float(made.basis[0]), float(made.funding[0]), float(made.naked[0])
    (50.0, 50.0, 0.0)
    """
    count = len(contracts.symbols)
    exposure = quantity * contracts.exposure
    buckets = np.bincount(contracts.bucket, exposure, len(contracts.bucket_underlying))
    gross = np.bincount(contracts.bucket_underlying, np.abs(buckets), count)
    net = np.bincount(contracts.bucket_underlying, buckets, count)
    notional = quantity * contracts.notional
    perpetual = np.array([c.kind == "perpetual" for c in contracts.contracts])
    funded = np.bincount(contracts.underlying, np.where(perpetual, notional, 0.0), count)
    naked = np.zeros(count)
    for sign in (1.0, -1.0):
        sold = np.bincount(contracts.underlying, np.where(contracts.sign == sign, notional, 0.0), count)
        naked += np.maximum(-sold, 0.0)
    size = np.maximum(np.abs(net), naked)
    above = np.maximum(size[:, None] - charged.floors, 0.0)
    return AddOns(
        basis=charged.basis * 0.5 * np.maximum(gross - np.abs(net), 0.0),
        funding=charged.funding * np.abs(funded),
        naked=charged.naked * naked,
        concentration=(above * charged.steps).sum(axis=1),
    )
