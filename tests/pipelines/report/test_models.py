"""Models as text: complete, loadable without pickle, equal for equal models, and refused when unknown."""

import json
from dataclasses import replace

import lightgbm as lgb
import numpy as np
import pytest

from calibrator.forecast.lgbm import Boosted
from calibrator.forecast.pooled import Pooled
from pipelines.models import model_digests, model_texts
from pipelines.report.page import Review

FILES = [
    "garch_normal.json", "gjr_t.json", "lightgbm_0.txt", "pooled.json", "stress.json", "stress.txt"
]  # fmt: skip


@pytest.fixture(scope="module")
def texts(review: Review) -> dict[str, str]:
    return model_texts(review.production.forecasts)


def test_every_model_has_its_file_and_its_digest(texts: dict[str, str], review: Review) -> None:
    assert set(FILES) <= set(texts)
    assert list(texts) == sorted(texts)
    assert model_texts(review.production.forecasts) == texts
    assert model_digests(texts) == review.document.model_digests


def test_trees_predict_the_same_after_reading_their_text(texts: dict[str, str], review: Review) -> None:
    fitted = review.production.forecasts.fitted["lightgbm"]
    assert isinstance(fitted, Boosted)
    again = lgb.Booster(model_str=texts["lightgbm_0.txt"])
    x = np.random.default_rng(1).standard_normal((50, again.num_feature()))
    np.testing.assert_array_equal(again.predict(x), fitted.boosters[0].predict(x))


def test_json_holds_what_a_forecast_needs(texts: dict[str, str], review: Review) -> None:
    fitted = review.production.forecasts.fitted["pooled"]
    assert isinstance(fitted, Pooled)
    pooled = json.loads(texts["pooled.json"])
    assert pooled["smearing"] == fitted.smearing
    assert sorted(pooled["coefficients"].values()) == sorted(fitted.coefficients.tolist())
    garch = json.loads(texts["garch_normal.json"])
    assert sorted(garch["markets"]) == review.markets
    assert 0 < garch["markets"]["BTCUSDT"]["beta"] < 1


def test_a_learner_that_learned_nothing_has_no_file(review: Review) -> None:
    empty = replace(review.production.forecasts, fitted={"lightgbm": Boosted(steps=1)})
    assert model_texts(empty) == {}


def test_an_unknown_model_is_refused(review: Review) -> None:
    odd = replace(review.production.forecasts, fitted={"odd": object()})
    with pytest.raises(TypeError, match="model must be one of the known forecasters, was object"):
        model_texts(odd)
