"""What scikit-learn's own checks and tools ask of the estimators."""

import importlib
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import aezoo
from aezoo.errors import MissingExtraError
from aezoo.sklearn import AutoencoderDetector, AutoencoderTransformer, default_spec
from tests.parts import in_parts

WINE: Any = load_wine(as_frame=True)
X = WINE.data.to_numpy()
ESTIMATORS = (AutoencoderTransformer, AutoencoderDetector)
quick = {cls: partial(cls, max_epochs=2) for cls in ESTIMATORS}


def checks() -> list[Any]:
    """Every check of scikit-learn for both estimators; each run takes a sixth of them."""
    found: list[Any] = []
    for cls in ESTIMATORS:
        for estimator, check in estimator_checks_generator(cls(max_epochs=3)):
            if getattr(check, "func", check).__name__ != "check_array_api_input":  # needs SCIPY_ARRAY_API=1
                found.append((estimator, check))
    return in_parts(found, 6)


@pytest.mark.parametrize(("estimator", "check"), checks())
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn", "ignore::FutureWarning:sklearn")
def test_check_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_missing_scikit_learn_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("aezoo.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(
        MissingExtraError, match=r"^this needs scikit-learn; .* pip install 'aezoo\[sklearn\]'$"
    ):
        importlib.import_module("aezoo.sklearn")


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_the_same_seed_gives_the_same_bytes(cls: Any) -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    states = np.random.get_state()[1].tobytes(), torch.get_rng_state()
    prints = [quick[cls](random_state=state).fit(X).autoencoder_.fingerprint() for state in (1, 1, 2)]
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]
    assert np.random.get_state()[1].tobytes() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_a_random_state_is_advanced_by_a_fit() -> None:
    state = np.random.RandomState(0)
    first, second = (quick[AutoencoderTransformer](random_state=state).fit_transform(X) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_copies_give_the_same_results(cls: Any, tmp_path: Path) -> None:
    fitted = quick[cls]().fit(WINE.data)
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    run = cls.transform if cls is AutoencoderTransformer else cls.decision_function
    for other in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "fitted.joblib")):
        np.testing.assert_array_equal(run(other, WINE.data), run(fitted, WINE.data))
    again = clone(fitted)
    with pytest.raises(NotFittedError):
        run(again, WINE.data)
    np.testing.assert_array_equal(run(again.fit(WINE.data), WINE.data), run(fitted, WINE.data))


def test_data_frames_in_and_out() -> None:
    ae = quick[AutoencoderTransformer](n_components=2).set_output(transform="pandas").fit(WINE.data)
    codes = ae.transform(WINE.data)
    assert list(codes) == ["autoencodertransformer0", "autoencodertransformer1"]
    assert list(codes.index) == list(WINE.data.index)
    assert ae.autoencoder_.columns == tuple(WINE.data)
    assert ae.inverse_transform(codes).shape == X.shape
    with pytest.raises(ValueError, match="feature names should match"):
        ae.transform(WINE.data[WINE.data.columns[::-1]])
    with pytest.raises(ValueError, match="feature names should match"):
        ae.transform(WINE.data.rename(columns={"ash": "sand"}))


def test_in_a_pipeline_and_a_column_transformer() -> None:
    columns = ColumnTransformer(
        [("ae", quick[AutoencoderTransformer](n_components=2), ["alcohol", "ash", "hue"])],
        remainder="passthrough",
    )
    model = make_pipeline(columns, StandardScaler(), RidgeClassifier())
    model.fit(WINE.data, WINE.target)
    columns = model[0]
    assert columns.transform(WINE.data).shape == (178, 12)
    assert "ae__autoencodertransformer1" in columns.get_feature_names_out()
    assert model.score(WINE.data, WINE.target) > 0.9


@pytest.mark.parametrize(("n_jobs", "features"), in_parts([(None, 6), (2, 8)], 2))
def test_grid_search_over_spec_paths(n_jobs: int | None, features: int) -> None:
    spec = default_spec(13)
    search = GridSearchCV(
        AutoencoderTransformer(spec, max_epochs=20),
        {
            "spec__encoder__1__out_features": np.array([1, features]),
            "spec__encoder.0.activation": ["tanh", "relu"],
        },
        cv=2,
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X)
    assert search.best_params_["spec__encoder__1__out_features"] == features
    assert search.best_estimator_.transform(X).shape == (178, features)
    assert spec == default_spec(13)
    in_pipeline = make_pipeline(AutoencoderTransformer(spec, max_epochs=1))
    in_pipeline.set_params(autoencodertransformer__spec__recipe__batch_size=8)
    assert in_pipeline[0].spec.recipe.batch_size == 8


def test_scores_of_scikit_learn() -> None:
    scores = cross_val_score(AutoencoderTransformer(max_epochs=20), X, cv=3)
    assert (scores < 0).all()
    usual = (WINE.target == 0).to_numpy()
    rows = np.flatnonzero(usual)[:40]
    aucs = cross_val_score(
        AutoencoderDetector(max_epochs=50), X, usual, cv=[(rows, np.setdiff1d(np.arange(178), rows))] * 2,
        scoring="roc_auc",
    )  # fmt: skip
    assert (aucs > 0.9).all()


def test_score_is_minus_the_error_of_standardized_data() -> None:
    ae = quick[AutoencoderTransformer]().fit(X)
    error = (ae.inverse_transform(ae.transform(X)) - X) / X.std(0)
    assert ae.score(X) == pytest.approx(-(error**2).mean(), rel=1e-4)
    constant = np.c_[X, np.full(178, 7.0)]
    assert np.isfinite(quick[AutoencoderTransformer]().fit(constant).score(constant))


# -- the threshold of the detector --------------------------------------------------------------------


def test_contamination_is_the_share_of_outliers() -> None:
    detector = quick[AutoencoderDetector](contamination=0.1)
    assert (detector.fit_predict(X) == -1).sum() == 18
    assert detector.offset_ == np.percentile(detector.score_samples(X), 10)
    np.testing.assert_array_equal(detector.predict(X) == -1, detector.decision_function(X) < 0)


def test_the_automatic_threshold_is_an_error_of_a_row_that_was_not_trained_on() -> None:
    spec = default_spec(13).replace({"recipe.refit": True})
    for share, reserved, alarms in ((0.05, 9, 0), (0.1, 18, 0), (0.2, 36, 1)):
        detector = AutoencoderDetector(spec, max_epochs=2, calibration_fraction=share).fit(X)
        record = detector.autoencoder_.training_record
        assert sum(record["data"][name]["n"] for name in ("train", "validation")) == 178 - reserved
        errors = -detector.score_samples(X)
        limit = int(np.isclose(errors, -detector.offset_, rtol=1e-8).argmax())
        assert np.isclose(errors[limit], -detector.offset_, rtol=1e-8)
        assert detector.predict(X[limit : limit + 1]) == 1
        assert (errors > -detector.offset_).sum() >= alarms


def test_usual_rows_are_inliers_and_others_are_not() -> None:
    iris: Any = load_iris()
    setosa = iris.data[iris.target == 0]
    detector = AutoencoderDetector(random_state=0).fit(setosa[:40])
    assert (detector.predict(setosa[40:]) == 1).mean() >= 0.7
    assert (detector.predict(iris.data[iris.target == 2]) == -1).mean() >= 0.9


def test_both_libraries_have_the_same_scores() -> None:
    detector = quick[AutoencoderDetector]().fit(X)
    x = detector.autoencoder_.transforms()(X)
    found = detector.autoencoder_.score_samples(x).detach().numpy()
    np.testing.assert_allclose(found, detector.score_samples(X), rtol=1e-4)
    assert aezoo.Autoencoder is type(detector.autoencoder_)
    assert pd.Series(detector.predict(X)).isin([-1, 1]).all()
