"""Other libraries' verbs: the checks of save, load and push hold for them as well."""

from pathlib import Path

import pytest
import torch

import aezoo
from aezoo.errors import CheckpointError, HubError, NotSupportedError, UnknownVariantError
from aezoo.zoo.schema import CONFIG, WEIGHTS
from tests.hub_server import HubServer
from tests.raising import raises
from tests.zoo.folders import contents, flip, same
from tests.zoo.hub_files import REPO, on_hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_a_folder_is_written_and_read_back(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    folder = ae.save_pretrained(tmp_path / "small")
    assert contents(folder) == contents(aezoo.save(ae, tmp_path / "other" / "small"))
    for name in (folder, str(folder)):
        assert same(aezoo.Autoencoder.from_pretrained(name), ae)
    with raises("target", match="already holds a trained variant"):
        ae.save_pretrained(folder)
    ae.save_pretrained(folder, overwrite=True)


def test_a_relative_folder_and_a_name_are_loaded(
    ae: aezoo.Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ae.save_pretrained("models/small")
    assert same(aezoo.Autoencoder.from_pretrained("models/small"), ae)
    assert aezoo.Autoencoder.from_pretrained("conv-strided").source.sha256
    with pytest.raises(UnknownVariantError, match="'conv-strided' is not a repository OWNER/NAME"):
        aezoo.Autoencoder.from_pretrained("conv-strided", revision="v1.0")


def test_every_byte_is_verified(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    folder = ae.save_pretrained(tmp_path / "small")
    flip(folder / WEIGHTS)
    with pytest.raises(CheckpointError):
        aezoo.Autoencoder.from_pretrained(folder)


def test_a_network_is_pushed_under_a_name_and_loaded(ann: HubServer, ae: aezoo.Autoencoder) -> None:
    published = ae.push_to_hub("ann/renamed", tag="v1.0", license="mit")
    assert published.repository == "ann/renamed"
    assert ann.repositories["ann/renamed"].tags == {"v1.0": published.commit}
    for revision in (None, "main", "v1.0", published.commit):
        loaded = aezoo.Autoencoder.from_pretrained("ann/renamed", revision=revision)
        assert all(torch.equal(tensor, ae.state_dict()[name]) for name, tensor in loaded.state_dict().items())
        assert loaded.spec.name == "renamed"  # pyright: ignore[reportAttributeAccessIssue]
        assert loaded.metrics == ae.metrics
    assert ae.spec.name == "small"  # pyright: ignore[reportAttributeAccessIssue]
    assert {CONFIG, WEIGHTS} <= set(on_hub(ann, "ann/renamed"))
    with raises("no-revision"):
        aezoo.Autoencoder.from_pretrained("ann/renamed", revision="v9")


def test_what_a_push_refuses(ann: HubServer, ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    with pytest.raises(UnknownVariantError, match="expected hub:OWNER/NAME"):
        ae.push_to_hub("no owner")
    with pytest.raises(HubError, match="a push makes a new commit; name it with tag"):
        ae.push_to_hub(f"{REPO}@v1.0")
    with (
        pytest.raises(HubError, match="'conv-strided' is a published variant, and this is another network"),
        pytest.warns(aezoo.DiagnosticWarning, match="name"),
    ):
        ae.push_to_hub("ann/conv-strided")
    architecture = aezoo.build(
        aezoo.AutoencoderSpec.model_validate(ae.spec.model_dump(include={"input", "encoder", "decoder"}))
    )
    with pytest.raises(NotSupportedError, match="only a variant can be published"):
        architecture.push_to_hub(REPO)
    assert ann.repositories == {}


def test_changed_weights_need_an_explicit_word(ann: HubServer, ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    trained = aezoo.load(ae.save_pretrained(tmp_path / "small"))
    with torch.no_grad():
        next(trained.parameters()).add_(1)
    with raises("modified", match="--allow-modified"):
        trained.push_to_hub(REPO)
    assert ann.repositories == {}
    trained.push_to_hub(REPO, allow_modified=True)
    assert same(aezoo.Autoencoder.from_pretrained(REPO), trained)
