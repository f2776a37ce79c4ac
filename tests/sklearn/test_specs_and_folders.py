"""The estimators with specs of every sort, with published variants, in folders, and with invalid input."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError

import aezoo
from aezoo.errors import CheckpointError, DataError, NotSupportedError
from aezoo.sklearn import AutoencoderDetector, AutoencoderTransformer, default_spec
from tests.hub_server import HubServer
from tests.parts import in_parts

X: Any = load_wine().data
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (30, 784), np.uint8)
SPEC = default_spec(13, 3)
NAMES = tuple(aezoo.list_variants())
CLOSED_FORM = ("linear-pca-32", "pca-32")


def quick(spec: Any = None, **parameters: Any) -> AutoencoderTransformer:
    """A transformer that trains for one epoch."""
    return AutoencoderTransformer(spec, **{"max_epochs": 1} | parameters)


# -- what a spec may be -------------------------------------------------------------------------------


def test_the_same_spec_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(aezoo.to_yaml(SPEC))
    data = SPEC.model_dump(mode="json")
    architecture = {key: data[key] for key in ("input", "encoder", "decoder")}
    forms: list[Any] = [
        SPEC, data, architecture, aezoo.AutoencoderSpec.model_validate(architecture), tmp_path / "spec.yaml",
        str(tmp_path / "spec.yaml"),
    ]  # fmt: skip
    codes = [quick(form).fit_transform(X) for form in forms]
    for code in (*codes, quick(n_components=3).fit_transform(X)):
        np.testing.assert_array_equal(code, codes[0])


def test_parameters_replace_those_of_the_recipe() -> None:
    fitted = quick(SPEC, batch_size=np.int64(7), learning_rate=0.5, random_state=np.int64(9)).fit(X)
    recipe = fitted.autoencoder_.spec.recipe
    assert (recipe.batch_size, recipe.seed) == (7, 9)
    assert (recipe.stages[0].epochs, recipe.stages[0].optimizer.lr) == (1, 0.5)
    assert fitted.n_iter_ == 1
    share = quick(validation_fraction=0.5).fit(X).autoencoder_.training_record["data"]
    assert (share["train"]["n"], share["validation"]["n"]) == (89, 89)


def test_paths_are_parameters() -> None:
    ae = AutoencoderTransformer("sparse-topk16")
    assert ae.get_params()["spec__encoder__2__k"] == 16
    assert ae.get_params(deep=False)["spec"] == "sparse-topk16"
    assert ae.set_params(**{"spec__encoder.2.k": 8, "verbose": 0}).spec.encoder[2].k == 8
    every = ae.get_params()
    assert AutoencoderTransformer().set_params(**every).get_params() == every
    assert (
        ae.set_params(spec=SPEC, spec__encoder__1={"kind": "linear", "out_features": 2}).spec.name
        == SPEC.name
    )
    assert ae.fit(X).transform(X).shape == (178, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec__encoder__2__kk": 8}, r"^encoder\.2\.kk: unknown key .*'k'"),
        ({"spec__encoder__2__k": 0}, r"^encoder\.2\.k: "),
        ({"spec__encoder.7.k": 8}, r"^encoder\.7\.k: encoder has entries 0 to 2, found '7'"),
        ({"spec__encodr__2__k": 8}, r"^encodr\.2\.k: the spec has no 'encodr' \(did you mean 'encoder'"),
        ({"spec__encoder__2__k": 8, "spec": None}, r"^spec__encoder__2__k: spec is None"),
        ({"spec__encoder__2__k": 8, "pretrained": True}, r"^spec__encoder__2__k: pretrained weights"),
        ({"spec": "no-such-variant", "spec__encoder__2__k": 8}, "no-such-variant"),
        ({"colour": 8, "spec__encoder__2__k": 8}, "Invalid parameter 'colour'"),
    ],
)
def test_a_mistyped_parameter_changes_nothing(change: dict[str, Any], message: str) -> None:
    ae = AutoencoderTransformer("sparse-topk16", verbose=1)
    before = ae.get_params()
    with pytest.raises((ValueError, LookupError), match=message):
        ae.set_params(**change)
    assert ae.get_params() == before


# -- variants -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", in_parts(NAMES, 24))
def test_variant(name: str, tmp_path: Path) -> None:
    spec = aezoo.get_spec(name)
    low, high = spec.input.range or (-2.0, 2.0)
    x = RNG.uniform(low, high, (24, math.prod(spec.input.shape)))
    ae = aezoo.load(name)
    given = AutoencoderTransformer(name, pretrained=True).fit(x)
    codes = given.transform(x)
    batch = ae.transforms()(x.reshape(24, *spec.input.shape))
    np.testing.assert_array_equal(codes, ae.encode(batch).detach().flatten(1).numpy())
    assert given.score(x) == pytest.approx(float(ae.score_samples(batch).mean()), rel=1e-4)
    trained = quick(name, max_epochs=None if name in CLOSED_FORM else 1).fit(x)
    detector = AutoencoderDetector(name, max_epochs=trained.max_epochs).fit(x)
    for fitted in (given, trained):
        if fitted.autoencoder_.decoder.needs:
            with pytest.raises(DataError, match="the decoder needs 'pool"):
                fitted.inverse_transform(codes)
        else:
            restored = fitted.inverse_transform(fitted.transform(x))
            error = np.square(
                (restored - x) / (x.std(0) if fitted is trained and not spec.input.range else 1)
            )
            if fitted is trained or spec.input.range:
                assert fitted.score(x) == pytest.approx(-error.mean(), rel=1e-3)
    trained.save(tmp_path / "a")
    np.testing.assert_array_equal(
        AutoencoderTransformer.load(tmp_path / "a").transform(x), trained.transform(x)
    )
    detector.save(tmp_path / "b")
    again = AutoencoderDetector.load(tmp_path / "b")
    np.testing.assert_array_equal(again.decision_function(x), detector.decision_function(x))


def test_images_as_bytes_and_as_numbers() -> None:
    ae = AutoencoderTransformer("fc-16", pretrained=True).fit(BYTES)
    assert ae.n_iter_ == 0
    np.testing.assert_allclose(ae.transform(BYTES), ae.transform(BYTES / 255), rtol=1e-4, atol=1e-5)
    assert ae.inverse_transform(ae.transform(BYTES)).max() <= 1
    for x, found in ((BYTES.astype(np.int64), "found int64"), (BYTES.astype(float), "found 0 to 255")):
        for estimator in (AutoencoderTransformer("fc-16", pretrained=True), quick("fc-16")):
            with pytest.raises(DataError, match=found):
                estimator.fit(x)
        with pytest.raises(DataError, match=found):
            ae.transform(x)


def test_another_target_is_refused() -> None:
    data = SPEC.model_dump(mode="json") | {"target": {"shape": [2]}}
    data["decoder"][1]["out_features"] = 2
    for cls in (AutoencoderTransformer, AutoencoderDetector):
        with pytest.raises(DataError, match=r"^spec: the target has shape \[2\], its input \[13\]"):
            cls(data).fit(X)


def test_a_pretrained_network_with_another_target_encodes_and_decodes(tmp_path: Path) -> None:
    data = SPEC.model_dump(mode="json") | {"target": {"shape": [2]}}
    data["decoder"][1]["out_features"] = 2
    aezoo.save(aezoo.build(aezoo.VariantSpec.model_validate(data)), tmp_path / "ae")
    ae = AutoencoderTransformer(tmp_path / "ae", pretrained=True).fit(X)
    assert ae.inverse_transform(ae.transform(X)).shape == (178, 2)
    with pytest.raises(NotSupportedError, match="not this target's shape"):
        ae.score(X)


def test_a_pretrained_network_of_a_table_needs_its_columns_in_order(tmp_path: Path) -> None:
    frame = load_wine(as_frame=True).data
    ae = quick(SPEC).fit(frame)
    ae.save(tmp_path / "ae")
    given = AutoencoderTransformer(tmp_path / "ae", pretrained=True)
    assert given.fit(frame).score(frame) == ae.score(frame) == given.fit(X).score(X)
    with pytest.raises(
        DataError, match=r"^X: expected the columns of the training in order, alcohol, malic_acid"
    ):
        given.fit(frame[frame.columns[::-1]])
    given.fit(frame).save(tmp_path / "again")
    restored = AutoencoderTransformer.load(tmp_path / "again")
    assert restored.spec == str(tmp_path / "ae")
    with pytest.raises(ValueError, match="feature names should match"):
        restored.transform(frame[frame.columns[::-1]])


# -- invalid input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_epochs": 0}, "max_epochs: expected None or a whole number of at least 1, found 0"),
        ({"max_epochs": True}, "max_epochs: .* found True"),
        ({"batch_size": 2.0}, "batch_size: .* found 2.0"),
        ({"n_components": "2"}, "n_components: .* found '2'"),
        ({"learning_rate": 0}, "learning_rate: expected None or a number above 0, found 0"),
        ({"learning_rate": math.nan}, "learning_rate: .* found nan"),
        ({"validation_fraction": 1.0}, "validation_fraction: expected a share between 0 and 1, found 1.0"),
        ({"random_state": -1}, "random_state: .* found -1"),
        ({"random_state": 2**31}, "random_state: .* found 2147483648"),
        ({"standardize": "no"}, "standardize: expected True, False or 'auto', found 'no'"),
        ({"device": None}, "device: expected a name such as 'cpu', found None"),
        ({"pretrained": 1}, "pretrained: expected True or False, found 1"),
        ({"pretrained": True}, "pretrained: expected the name or the folder of a variant as spec"),
        ({"spec": SPEC, "n_components": 2}, "n_components is for the default spec"),
        ({"spec": 5}, "spec: expected None, a spec, a dict, a path or the name of a variant, found int"),
        ({"spec": {"input": {"shape": [13]}}}, "encoder: missing"),
        ({"spec": default_spec(12)}, r"X has 13 features, the spec's input, \[12\], has 12"),
        ({"spec": "fc-64"}, r"X has 13 features, the spec's input, \[1, 28, 28\], has 784"),
        ({"spec": "fc-64", "pretrained": True}, r"X has 13 features, the spec's input, \[1, 28, 28\], has 784"),
        ({"spec": "pca-32", "max_epochs": 2}, "max_epochs: the recipe of pca-32 has no stage of gradient descent"),
        ({"spec": default_spec(13).replace({"encoder.0": {"kind": "topk", "k": 14}})}, r"encoder\.0\.k: 14 is more"),
    ],
)  # fmt: skip
def test_invalid_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        AutoencoderTransformer(**parameters).fit(X)


@pytest.mark.parametrize("contamination", [0, 0.6, -0.1, 1, True, "some", None, math.nan])
def test_invalid_contamination(contamination: Any) -> None:
    with pytest.raises(DataError, match=r"^calibration_fraction: expected a share between 0 and 1, found 0"):
        AutoencoderDetector(calibration_fraction=0).fit(X)
    with pytest.raises(DataError, match=r"^contamination: expected 'auto' or a share"):
        AutoencoderDetector(contamination=contamination).fit(X)


def test_standardized_data_have_no_range() -> None:
    bounded = SPEC.replace({"input.range": [0.0, 2000.0]})
    with pytest.raises(DataError, match=r"^standardize: standardized values are unbounded"):
        quick(bounded, standardize=True).fit(X)
    assert quick(bounded).fit(X).autoencoder_.scaler is None
    assert quick(SPEC, standardize=False).fit(X).autoencoder_.scaler is None
    scaler = quick(SPEC).fit(X).autoencoder_.scaler
    assert scaler is not None
    np.testing.assert_allclose(scaler.shift, X.mean(0), rtol=1e-6)


def test_unusual_data() -> None:
    assert quick().fit(X[:2]).transform(X[:1]).shape == (1, 4)
    for contamination, n in ((0.5, 2), ("auto", 3)):
        detector = AutoencoderDetector(max_epochs=1, contamination=contamination).fit(X[:n])
        assert np.isfinite(detector.decision_function(X[:1])).all()
        with pytest.raises(ValueError, match=f"minimum of {n} is required"):
            detector.fit(X[: n - 1])
    for wrong, message in (
        (np.ma.masked_array(X[:5], X[:5] > 13), "X has masked values"),
        (np.arange(6).reshape(3, 2).astype("datetime64[D]"), "X: expected numbers, found datetime64"),
    ):
        with pytest.raises(DataError, match=message):
            quick().fit(wrong)
    same = np.ones((5, 3))
    assert quick().fit(same).score(same) > -10
    for dtype in (bool, np.int8, np.uint16, np.uint64, np.float16, np.longdouble, object):
        assert np.isfinite(quick().fit(X[:9].astype(dtype)).score(X[:9].astype(dtype)))
    far = X + 1e9
    restored = quick(max_epochs=30).fit(far).inverse_transform(quick(max_epochs=30).fit_transform(far))
    assert np.abs(restored - far).max() < np.ptp(X)
    with pytest.raises(DataError, match="too large to be standardized"):
        quick().fit(X * 1e304)
    with pytest.raises(ValueError, match="2 columns, expected 4 latents"):
        quick().fit(X).inverse_transform(X[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        quick().fit(X).inverse_transform(np.full((1, 4), np.nan))


# -- folders ------------------------------------------------------------------------------------------


def test_a_folder_keeps_the_estimator(tmp_path: Path) -> None:
    first = quick(
        SPEC,
        random_state=np.random.RandomState(3),
        learning_rate=np.float64(0.01),
        device=torch.device("cpu"),
    ).fit(X)
    first.save(tmp_path / "ae")
    second = AutoencoderTransformer.load(tmp_path / "ae")
    expected = first.get_params() | {"random_state": first.autoencoder_.spec.recipe.seed, "device": "cpu"}
    assert second.get_params() == expected
    assert second.score(X) == first.score(X)
    assert (second.n_iter_, second.n_features_in_) == (1, 13)
    np.testing.assert_array_equal(second.fit_transform(X), first.transform(X))
    assert aezoo.load(tmp_path / "ae").fingerprint() == first.autoencoder_.fingerprint()
    with pytest.raises(CheckpointError, match="already holds a trained variant"):
        second.save(tmp_path / "ae")
    second.save(tmp_path / "ae", overwrite=True)
    with pytest.raises(NotFittedError):
        quick().save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    quick(SPEC).fit(X).save(tmp_path / "ae")
    quick(SPEC, random_state=1).fit(X).save(tmp_path / "other")
    path = tmp_path / "ae" / "estimator.json"
    content = path.read_text()

    def refused(text: str, code: str, message: str, cls: Any = AutoencoderTransformer) -> None:
        path.write_text(text)
        with pytest.raises(CheckpointError, match=message) as error:
            cls.load(tmp_path / "ae")
        assert error.value.code == code

    refused(content.replace('"max_epochs": 1', '"max_epochs": 2'), "hash-mismatch", "has sha256")
    refused(content[:50], "invalid-config", "not valid JSON")
    refused(
        (tmp_path / "other" / "estimator.json").read_text(), "hash-mismatch", "belongs to another network"
    )
    refused(content, "invalid-config", "AutoencoderTransformer.load", AutoencoderDetector)
    data = json.loads(content)
    for change, message in (
        ({"schema_version": 2}, "schema_version"),
        ({"n_features_in": 0}, "n_features_in"),
        ({"n_features_in": 12}, "n_features_in: 12, the network has 13"),
        ({"params": {"colour": 1}}, "params: .*colour"),
        ({"params": {"max_epochs": 0}}, "params: max_epochs: expected"),
    ):
        changed = {key: value for key, value in (data | change).items() if key != "sha256"}
        refused(json.dumps({"sha256": digest(changed)} | changed), "invalid-config", message)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"estimator\.json is missing"):
        AutoencoderTransformer.load(tmp_path / "ae")
    shutil.rmtree(tmp_path / "ae")
    with pytest.raises(CheckpointError):
        AutoencoderTransformer.load(tmp_path / "ae")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # raised inside the client
def test_an_estimator_on_the_hub(tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.user = "you"
    fitted = AutoencoderDetector(SPEC, max_epochs=1).fit(X)
    fitted.save(tmp_path / "ae")
    aezoo.push(tmp_path / "ae", tag="v1.0", license="mit")
    again = AutoencoderDetector.load("hub:you/estimator@v1.0")
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    aezoo.save(fitted.autoencoder_, tmp_path / "ae", overwrite=True)  # of another network, perhaps
    assert not (tmp_path / "ae" / "estimator.json").exists()


def digest(data: object) -> str:
    """The hash of `estimator.json`, computed as docs/sklearn.md describes it."""
    import hashlib

    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
