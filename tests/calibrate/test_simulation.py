"""Simulated losses against a plain loop, a closed form, and another number of threads."""

import numba
import numpy as np
import pytest

from calibrator.calibrate.simulation import Dynamics, simulate_losses

Array = np.ndarray


def world(paths: int = 200, steps: int = 12, markets: int = 5) -> tuple[Dynamics, Array, Array]:
    rng = np.random.default_rng(4)
    dynamics = Dynamics(
        omega=rng.uniform(1e-6, 1e-5, markets),
        alpha=rng.uniform(0.02, 0.15, markets),
        beta=rng.uniform(0.7, 0.84, markets),
        variance=rng.uniform(1e-5, 1e-3, markets),
    )
    return dynamics, rng.standard_t(5, (500, markets)), rng.integers(0, 500, (paths, steps))


def slow(dynamics: Dynamics, shocks: Array, draws: Array) -> tuple[Array, Array]:
    shape = (len(draws), len(dynamics.omega))
    variance, level = np.tile(dynamics.variance, (len(draws), 1)), np.zeros(shape)
    low, high = np.zeros(shape), np.zeros(shape)
    for step in range(draws.shape[1]):
        move = np.sqrt(variance) * shocks[draws[:, step]]
        variance = dynamics.omega + dynamics.alpha * move**2 + dynamics.beta * variance
        level = level + move
        low, high = np.minimum(low, level), np.maximum(high, level)
    return 1 - np.exp(low), np.exp(high) - 1


def test_the_kernel_does_what_the_plain_loop_does() -> None:
    fast = simulate_losses(*world())
    for mine, theirs in zip(fast, slow(*world()), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-15)
        assert (mine >= 0).all()


def test_the_number_of_threads_does_not_matter() -> None:
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = simulate_losses(*world())
    finally:
        numba.set_num_threads(most)
    for mine, theirs in zip(one, simulate_losses(*world()), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_one_constant_step_gives_the_quantile_of_the_shocks() -> None:
    one = np.ones(1)
    dynamics = Dynamics(one * 4e-4, 0 * one, 0 * one, one * 4e-4)
    shocks = np.random.default_rng(1).standard_normal((4000, 1))
    draws = np.random.default_rng(2).integers(0, 4000, (60_000, 1))
    long, short = simulate_losses(dynamics, shocks, draws)
    assert np.quantile(long, 0.99) == pytest.approx(1 - np.exp(0.02 * np.quantile(shocks, 0.01)), rel=0.03)
    assert np.quantile(short, 0.99) == pytest.approx(np.exp(0.02 * np.quantile(shocks, 0.99)) - 1, rel=0.03)


def test_markets_move_together() -> None:
    one = np.ones(2)
    dynamics = Dynamics(one * 1e-4, 0 * one, 0 * one, one * 1e-4)
    shock = np.random.default_rng(3).standard_normal(300)
    long, _ = simulate_losses(dynamics, np.column_stack([shock, shock]), np.arange(300).reshape(100, 3))
    np.testing.assert_array_equal(long[:, 0], long[:, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variance": np.array([0.0])}, "variance positive"),
        ({"alpha": np.array([np.nan])}, "finite and not negative"),
        ({"beta": np.array([0.1, 0.2])}, "vectors of one length"),
    ],
)
def test_bad_dynamics_are_refused(change: dict[str, Array], message: str) -> None:
    good = {name: np.array([0.1]) for name in ("omega", "alpha", "beta", "variance")}
    with pytest.raises(ValueError, match=message):
        Dynamics(**good | change)


@pytest.mark.parametrize(
    ("shocks", "draws", "message"),
    [
        (np.full((3, 1), np.nan), np.zeros((1, 1), int), "shocks must be finite"),
        (np.zeros((3, 2)), np.zeros((1, 1), int), "of shape"),
        (np.zeros((3, 1)), np.full((1, 1), 3), "draws must"),
        (np.zeros((3, 1)), np.full((1, 1), -1), "draws must"),
    ],
)
def test_bad_shocks_and_draws_are_refused(shocks: Array, draws: Array, message: str) -> None:
    one = np.ones(1)
    with pytest.raises(ValueError, match=message):
        simulate_losses(Dynamics(one, one, one, one), shocks, draws)
