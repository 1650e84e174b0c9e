"""The conformal step against a plain loop, and what it promises: it tightens, returns, and never loosens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.conformal import ladder, tighten

Array = np.ndarray
LEVELS = ladder(0.9, 0.99)


def world(seed: int, decisions: int = 120) -> tuple[Array, Array, Array]:
    """Two markets, two sides, three starts; the second market is listed late; losses mature unevenly."""
    rng = np.random.default_rng(seed)
    losses = np.abs(rng.standard_t(3, (decisions, 2, 2, 3)))
    losses[:30, 1] = np.nan
    losses[50, 0, 1, 2] = np.nan
    known = np.arange(decisions)[:, None] + rng.integers(1, 4, (decisions, 2))
    known[:30, 1] = decisions
    base = rng.uniform(1.5, 2.5, (decisions, 2, 2, 1))
    quantiles = base * np.array([1.0, 1.2, 1.4, 1.7, 2.0])
    quantiles[:10] = np.nan
    return losses, known, quantiles


def slow(losses: Array, known: Array, quantiles: Array, gain: float) -> tuple[Array, Array]:
    decisions, markets, sides, _ = losses.shape
    out, level = np.full((decisions, markets, sides), np.nan), np.empty((decisions, markets))
    shares = 1 - np.array(LEVELS)
    for m in range(markets):
        share, seen = shares[0], set()
        for t in range(decisions):
            due = [s for s in range(decisions) if known[s, m] <= t and s not in seen]
            for s in sorted(due, key=lambda s: (known[s, m], s)):
                seen.add(s)
                pairs = [(x, out[s, m, k]) for k in range(sides) for x in losses[s, m, k]]
                pairs = [(x, q) for x, q in pairs if np.isfinite(x) and np.isfinite(q)]
                if pairs:
                    breaches = np.mean([x > q for x, q in pairs])
                    share = min(shares[0], max(shares[-1], share + gain * (shares[0] - breaches)))
            level[t, m] = 1 - share
            for k in range(sides):
                out[t, m, k] = np.interp(-np.log(share), -np.log(shares), quantiles[t, m, k])
    return out, level


@pytest.mark.parametrize("gain", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_does_what_the_plain_loop_does(seed: int, gain: float) -> None:
    losses, known, quantiles = world(seed)
    fast = tighten(losses, known, quantiles, levels=LEVELS, gain=gain)
    for mine, theirs in zip(fast, slow(losses, known, quantiles, gain), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), gain=st.floats(0.0, 0.1))
def test_it_tightens_and_never_loosens(seed: int, gain: float) -> None:
    losses, known, quantiles = world(seed, 60)
    quantile, level = tighten(losses, known, quantiles, levels=LEVELS, gain=gain)
    assert ((level >= LEVELS[0] - 1e-12) & (level <= LEVELS[-1] + 1e-12)).all()
    there = np.isfinite(quantile)
    assert (quantile[there] >= quantiles[..., 0][there] * (1 - 1e-12)).all()
    assert (quantile[there] <= quantiles[..., -1][there] * (1 + 1e-12)).all()


def test_it_does_not_look_ahead() -> None:
    losses, known, quantiles = world(7)
    whole = tighten(losses, known, quantiles, levels=LEVELS, gain=0.05)
    for cut in (20, 60, 119):
        other = losses.copy()
        other[known > cut] *= 50.0
        seen = tighten(other, known, quantiles, levels=LEVELS, gain=0.05)
        for mine, theirs in zip(seen, whole, strict=True):
            np.testing.assert_array_equal(mine[: cut + 1], theirs[: cut + 1])
    assert (seen[1] != whole[1]).any() or cut == len(losses) - 1


def test_a_market_without_breaches_returns_to_the_base() -> None:
    losses = np.zeros((400, 1, 2, 1))
    losses[5] = 100.0
    known = np.arange(1, 401)[:, None]
    quantiles = np.broadcast_to(np.linspace(2.0, 4.0, 5), (400, 1, 2, 5))
    quantile, level = tighten(losses, known, quantiles, levels=LEVELS, gain=0.05)
    assert level[6] > level[5] == pytest.approx(0.9)
    assert level[-1] == pytest.approx(0.9)
    assert quantile[-1, 0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize("levels", [(0.99, 0.9), (0.0, 0.5), (0.9, 1.0)])
def test_levels_out_of_order_are_refused(levels: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="need 0 < level <= strictest < 1"):
        ladder(*levels)


def test_a_negative_gain_is_refused() -> None:
    with pytest.raises(ValueError, match="gain must not be negative"):
        tighten(*world(1), levels=LEVELS, gain=-0.1)
