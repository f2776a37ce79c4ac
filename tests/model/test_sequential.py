"""Sequences of layers: paths in errors, `aux`, containers, and layers that break the contract."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.model.build import build_on_meta
from aezoo.model.sequential import LayerSequence, LayerShape
from tests.examples import small
from tests.model.layers.modules import layer_specs

SHAPE = (1, 6, 6)
UNFLATTEN = {"kind": "unflatten", "shape": SHAPE}


def network(*encoder: Any) -> aezoo.VariantSpec:
    """A variant with these layers behind a `flatten`; the decoder restores the shape."""
    return aezoo.VariantSpec.model_validate(small(encoder=["flatten", *encoder], decoder=[UNFLATTEN]))


# -- modules that keep the contract, and modules that break it ----------------------------------------


class Module(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h


class PlainTensor(Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(3)


class TransientBuffer(Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3), persistent=False)


class LosesRows(Module):
    def forward(self, h: Tensor) -> Tensor:
        return h[:1]


class LosesValues(Module):
    def forward(self, h: Tensor) -> Tensor:
        return h[:, :0]


class Raises(Module):
    def forward(self, h: Tensor) -> Tensor:
        raise RuntimeError("no way\nand more")


class Emits(nn.Module):
    emits = ("code",)

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        aux["code"] = h
        return h


class EmitsNothing(Emits):
    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        return h


class Needs(nn.Module):
    needs = ("code",)

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        return h + aux["code"]


def cannot_build() -> nn.Module:
    raise ValueError("nothing to build")


MODULES: dict[str, Callable[[], nn.Module]] = {
    "plain": PlainTensor, "transient": TransientBuffer, "loses_rows": LosesRows, "loses_values": LosesValues,
    "raises": Raises,
    "emits": Emits, "emits_nothing": EmitsNothing, "needs": Needs, "cannot": cannot_build,
}  # fmt: skip


class ProbeSpec(aezoo.LayerSpec):
    """Builds one of the modules above."""

    kind: Literal["probe"] = "probe"
    what: str

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return MODULES[self.what]()


class Container(nn.Sequential):
    def __init__(self, spec: aezoo.LayerSpec, *parts: LayerSequence) -> None:
        super().__init__(*parts)
        self.spec = spec


class ContainerSpec(aezoo.LayerSpec):
    """Builds all of its layers, the first one again, and a layer of its own; the module keeps the spec."""

    kind: Literal["container"] = "container"
    layers: tuple[aezoo.LayerSpec, ...]

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        layers = LayerSequence.build(self.layers, in_shape, "layers")
        assert layers.out_shape is not None
        first = LayerSequence.build(self.layers[:1], layers.out_shape, "again")
        own = LayerSequence.build(layer_specs({"kind": "topk", "k": 4}), layers.out_shape, "own")
        return Container(self, layers, first, own)


@pytest.fixture(autouse=True)
def registered(fresh_registry: None) -> None:
    for spec in (ProbeSpec, ContainerSpec):
        aezoo.register(spec)


def probe(what: str) -> dict[str, Any]:
    return {"kind": "probe", "what": what}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["plain"], "PlainTensor.mean is a plain tensor; make it a parameter or a persistent buffer"),
        (
            ["transient"],
            "TransientBuffer.mean is a non-persistent buffer; make it a parameter or a persistent buffer",
        ),
        (
            ["loses_rows"],
            "probe gives (1, 36) for a batch of 2 x (36,); a layer keeps the batch axis and gives at least "
            "one value",
        ),
        (
            ["loses_values"],
            "probe gives (2, 0) for a batch of 2 x (36,); a layer keeps the batch axis and gives at least one "
            "value",
        ),
        (["raises"], "probe does not take the shape (36,) that encoder.0 gives: no way"),
        (["cannot"], "probe cannot be built on (36,): nothing to build"),
        (["needs"], "probe needs 'code', which no earlier layer emits"),
        (["emits", "emits"], "probe emits 'code', which an earlier layer emits too"),
        (["emits_nothing"], "probe declares that it emits 'code' but does not"),
    ],
)
def test_layer_that_breaks_the_contract_is_named(names: list[str], message: str) -> None:
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.build(network(*map(probe, names)))
    assert str(caught.value) == f"encoder.{len(names)}: {message}"


# -- aux ----------------------------------------------------------------------------------------------


def test_what_is_emitted_inside_a_container_reaches_layers_outside() -> None:
    ae = aezoo.build(network({"kind": "residual", "layers": [probe("emits")]}, probe("needs")))
    x = torch.rand(2, *SHAPE)
    assert torch.equal(ae(x).latents, 3 * x.flatten(1))
    assert (ae.encoder.emits, ae.encoder.needs) == (("code",), ())


def test_sequence_declares_what_its_layers_emit_and_need() -> None:
    sequence = LayerSequence([Needs(), Emits(), Needs(), nn.Identity()])
    assert (sequence.emits, sequence.needs, sequence.out_shape) == (("code",), ("code",), None)
    h = torch.ones(2, 3)
    aux = {"code": 4 * h}
    assert torch.equal(LayerSequence([sequence])(h, aux), 10 * h)
    assert torch.equal(aux["code"], 5 * h)
    assert torch.equal(LayerSequence([LayerSequence([nn.Identity()])])(h), h)


# -- containers ---------------------------------------------------------------------------------------


def test_path_is_that_of_the_document_even_after_repeated_layers(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "name: small\nsummary: s\ninput: {shape: [36]}\nencoder:\n"
        "  - {kind: linear, out_features: 8, repeat: 5}\n  - kind: residual\n    layers:\n"
        "      - {kind: linear, out_features: 8, repeat: 2}\n      - {kind: topk, k: 9}\n"
        "decoder: [{kind: linear, out_features: 36}]\n"
        "recipe: {reconstruction: mse, stages: [{kind: fit, epochs: 1}]}\n"
    )
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(path)
    message = "encoder.1.layers.1.k: 9 is more than the 8 features that layers.0 gives"
    assert str(caught.value) == f"{path}:9: {message}"


def test_path_and_shapes_include_every_container() -> None:
    def nested_topk(k: int) -> dict[str, Any]:
        inner = {"kind": "residual", "layers": [{"kind": "topk", "k": k}]}
        return {"kind": "residual", "layers": [inner], "repeat": 2}

    ae = aezoo.build(network(nested_topk(36)))
    nested = ["layers.0.layers.0", "layers.0"]
    paths = [f"encoder.{i}{end}" for i in (1, 2) for end in (*(f".{path}" for path in nested), "")]
    assert list(ae.shapes) == ["encoder.0", *paths, "decoder.0"]
    assert set(list(ae.shapes.values())[1:-1]) == {LayerShape((36,), (36,))}
    with pytest.raises(
        aezoo.SpecError, match=r"^encoder\.1\.layers\.0\.layers\.0\.k: 37 is more than the 36"
    ):
        aezoo.build(network(nested_topk(37)))


@pytest.mark.parametrize("pickled", [False, True])
def test_container_may_keep_its_spec_and_build_other_layers(pickled: bool) -> None:
    linear = {"kind": "linear", "out_features": 36}
    spec = network({"kind": "container", "layers": [linear, {"kind": "dropout", "p": 0.5}]})
    ae, same = aezoo.build(spec, seed=1).eval(), aezoo.build(spec, seed=1).eval()
    x = torch.rand(2, *SHAPE)
    assert torch.equal(ae(x).x_hat, same(x).x_hat)
    assert list(ae.shapes) == [
        "encoder.0",
        "encoder.1.layers.0",
        "encoder.1.layers.1",
        "encoder.1",
        "decoder.0",
    ]
    assert build_on_meta(spec, ae.shapes).shapes == ae.shapes
    other = pickle.loads(pickle.dumps(ae)) if pickled else copy.deepcopy(ae)
    assert other.encoder[1].spec == spec.encoder[1]
    assert torch.equal(ae(x).x_hat, other(x).x_hat)
    with pytest.raises(aezoo.SpecError, match=r"^encoder\.1\.again\.0\.k: 6 is more than the 5"):
        aezoo.build(
            network({"kind": "container", "layers": [{"kind": "topk", "k": 6}, linear | {"out_features": 5}]})
        )


def test_sequence_builds_outside_of_an_autoencoder() -> None:
    layers = layer_specs({"kind": "linear", "out_features": 5, "repeat": 2}, {"kind": "topk", "k": 6})
    assert LayerSequence.build(layers[:1], (3,), "layers").out_shape == (5,)
    with pytest.raises(aezoo.SpecError) as caught:
        LayerSequence.build(iter(layers), (3,), "layers")
    assert str(caught.value) == "layers.1.k: 6 is more than the 5 features that layers.0 gives"
