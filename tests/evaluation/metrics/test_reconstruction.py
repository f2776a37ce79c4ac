"""MSE, SSE and the fraction of variance unexplained."""

import pytest
import torch

import aezoo
from aezoo.data.samples import Samples
from tests.evaluation.by_hand import BY_HAND, TWO_TO_TWO, X, two_to_two
from tests.evaluation.networks import measure, values


def test_the_error_is_measured_against_the_target() -> None:
    found = values(measure(two_to_two(), X, torch.zeros(3, 2)))
    # The squared distances from zero are 5, 9 and 0 for the reconstructions, 2 for the mean.
    assert found == pytest.approx(BY_HAND | {"mse": 14 / 6, "sse": 14 / 3, "fvu": 14 / 6}, rel=1e-15)


def test_targets_are_not_rounded_to_the_precision_of_the_network() -> None:
    found = measure(two_to_two(torch.bfloat16), torch.zeros(3, 2), torch.full((3, 2), 0.1))
    assert found["mse"]["value"] == pytest.approx(0.01, rel=1e-6)


def test_bytes_are_scaled_as_for_the_network() -> None:
    spec = aezoo.AutoencoderSpec.model_validate(TWO_TO_TWO | {"input": {"shape": [2], "range": [-1, 1]}})
    ae = aezoo.build(spec)
    ae.load_state_dict(two_to_two().state_dict(), strict=False)
    samples = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8)
    assert measure(ae, samples)["sse"]["value"] == 1.0


def test_sums_are_kept_in_double_precision() -> None:
    # 2^24 + 1 is the smallest natural number that single precision cannot represent.
    ae = two_to_two()
    ae.target_mean = torch.zeros(2)
    found = values(measure(ae, torch.tensor([[-4096.0, 0.0], [-1.0, 0.0]])))
    assert (found["sse"], found["fvu"]) == ((2**24 + 1) / 2, 1.0)


@pytest.mark.parametrize("train", [X, torch.rand(999, 2, generator=torch.Generator().manual_seed(0))])
def test_fvu_of_the_training_mean_is_1(train: torch.Tensor) -> None:
    ae = two_to_two()
    ae.target_mean = mean = Samples(train).target_mean(ae.spec)
    ae.state_dict()["decoder.0.linear.weight"].zero_()
    ae.state_dict()["decoder.0.linear.bias"].copy_(mean)
    assert measure(ae, X)["fvu"]["value"] == 1.0


@pytest.mark.parametrize(
    ("mean", "samples", "reason"),
    [
        (None, X, "the mean of the training targets is not known"),
        (X[0], X[:1].expand(5, 2), "the targets do not vary"),
    ],
)
def test_fvu_is_null_without_a_mean_or_variance(
    mean: torch.Tensor | None, samples: torch.Tensor, reason: str
) -> None:
    ae = two_to_two()
    ae.target_mean = mean
    found = measure(ae, samples)
    assert (found["fvu"]["value"], found["fvu"]["reason"]) == (None, reason)
    assert all(found[kind]["reason"] is None for kind in set(found) - {"fvu"})
