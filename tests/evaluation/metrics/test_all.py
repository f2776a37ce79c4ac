"""Properties that every metric has."""

from typing import Literal

import pytest
import torch

from aezoo.model.autoencoder import Autoencoder
from aezoo.plugins.registry import registry
from tests.evaluation.by_hand import BY_HAND, X, two_to_two
from tests.evaluation.networks import METRICS, linear, measure, net, uniform, values

# The network of `by_hand` has no recipe, does not return images and draws nothing.
NOT_BY_HAND = {
    "denoised_mse", "noisy_input_mse", "noisy_target_mse", "checkerboard", "kl", "log_likelihood", "elbo",
}  # fmt: skip
BETTER = {
    "lower": {"mse", "sse", "fvu", "dead_latents", "denoised_mse", "checkerboard"},
    "higher": {"log_likelihood", "elbo"},
    "neither": {"l0", "hoyer", "atom_area", "noisy_input_mse", "noisy_target_mse", "kl"},
}

Name = Literal["denoiser", "variational"]
NAMES: tuple[Name, ...] = ("denoiser", "variational")


def network(name: Name) -> Autoencoder:
    """A network with layers that act differently in training; together, every metric applies to the two."""
    noises = [{"kind": "gaussian", "std": 0.1}]
    if name == "denoiser":
        encoder = ["flatten", linear(5, norm="batch_norm", dropout=0.5)]
        return net((1, 4, 4), encoder, [linear(16), {"kind": "unflatten", "shape": [1, 4, 4]}], noises=noises)
    pool = {"kind": "max_pool", "kernel_size": 2}
    encoder = [pool, {"kind": "dropout", "p": 0.5}, {"kind": "conv", "out_channels": 4, "kernel_size": 1}]
    decoder = [{"kind": "conv_transpose", "out_channels": 1, "kernel_size": 2, "stride": 2}]
    return net((1, 4, 4), [*encoder, "gaussian_sample"], decoder, noises=noises)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_metrics_match_values_worked_out_by_hand(dtype: torch.dtype) -> None:
    assert set(BY_HAND) | NOT_BY_HAND == set(METRICS)
    assert values(measure(two_to_two(dtype), X)) == pytest.approx(BY_HAND, rel=1e-15)


@pytest.mark.parametrize("kind", METRICS)
def test_a_definition_is_one_short_line_of_its_own(kind: str) -> None:
    metric = registry.get("metric", kind)
    assert metric.definition == " ".join(metric.definition.split())
    assert 20 < len(metric.definition) <= 300
    assert [registry.get("metric", other).definition for other in METRICS].count(metric.definition) == 1
    assert kind in BETTER[metric.better]


def test_every_metric_applies_to_a_network_and_then_has_a_value() -> None:
    measured: dict[str, float | None] = {}
    for name in NAMES:
        ae = network(name)
        ae.target_mean = torch.zeros(1, 4, 4)
        found = measure(ae, uniform(5, 1, 4, 4))
        assert list(found) == [kind for kind in METRICS if registry.get("metric", kind).applies(ae)]
        assert {"mse", "sse", "fvu", "l0", "dead_latents"} <= set(found)
        measured |= values(found)
    assert set(measured) == set(METRICS)
    assert None not in measured.values()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["train", "eval", "frozen encoder"])
def test_values_do_not_depend_on_mode_or_random_state_and_nothing_is_changed(name: Name, mode: str) -> None:
    ae, x = network(name), uniform(5, 1, 4, 4)
    expected = measure(ae.eval(), x)
    ae.train(mode != "eval")
    if mode == "frozen encoder":
        ae.encoder.eval()
    weights = {key: tensor.clone() for key, tensor in ae.state_dict().items()}
    modes, samples = [module.training for module in ae.modules()], x.clone()
    torch.manual_seed(99)
    random_state = torch.get_rng_state()
    assert measure(ae, x) == expected
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in ae.modules()] == modes
    assert torch.equal(x, samples)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in ae.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_noise_changes_what_is_measured(name: Name) -> None:
    found = values(measure(network(name), uniform(5, 1, 4, 4)))
    assert found["denoised_mse"] != found["mse"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_of_another_precision_are_measured(name: Name, dtype: torch.dtype) -> None:
    ae, x = network(name), uniform(5, 1, 4, 4)
    expected, found = values(measure(ae, x)), values(measure(ae.to(dtype), x))
    # Noise of another precision is drawn differently, and five samples of sixteen values do not average it out.
    assert {kind: value is None for kind, value in found.items()} == {
        kind: value is None for kind, value in expected.items()
    }


@pytest.mark.parametrize(
    ("bias", "words"), [(torch.nan, "the result is nan"), (torch.inf, "the result is inf")]
)
def test_a_value_that_is_not_finite_is_null(bias: float, words: str) -> None:
    ae = two_to_two()
    ae.state_dict()["decoder.0.linear.bias"].fill_(bias)
    found = measure(ae, X)
    for kind in ("mse", "sse", "fvu"):
        assert (found[kind]["value"], found[kind]["reason"]) == (None, words)
    assert found["l0"]["value"] == BY_HAND["l0"]
