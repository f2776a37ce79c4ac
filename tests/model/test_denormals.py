"""Denormal numbers: flushed in every thread, restored afterwards, and never saved."""

import threading
from pathlib import Path

import pytest
import torch

import aezoo
from aezoo.model.denormals import flush_denormals, flushes_denormals, is_denormal, without_denormals

DENORMAL = {torch.float32: 1e-40, torch.bfloat16: 1e-40, torch.float64: 1e-310}


def share_of_denormals() -> float:
    """Share of a product computed by all threads of the pool that is denormal."""
    x = torch.full((1000, 1000), 1e-40) * torch.full((1000, 1000), 0.5)
    return float(is_denormal(x).float().mean())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_thread_of_the_pool_flushes(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert share_of_denormals() == 1
        with flush_denormals():
            assert share_of_denormals() == 0
        assert share_of_denormals() == 1
    finally:
        torch.set_num_threads(before)


def test_the_callers_setting_is_restored() -> None:
    torch.set_flush_denormal(True)
    try:
        with flush_denormals():
            assert flushes_denormals()
        assert flushes_denormals()
    finally:
        torch.set_flush_denormal(False)
    with pytest.raises(ValueError, match="inside"), flush_denormals():
        raise ValueError("inside")
    assert not flushes_denormals()
    with flush_denormals(False):
        assert not flushes_denormals()


def test_fewer_threads_in_between_are_restored() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with flush_denormals():
            torch.set_num_threads(1)
        torch.set_num_threads(2)
        assert share_of_denormals() == 1
    finally:
        torch.set_num_threads(before)


def test_the_setting_belongs_to_a_thread() -> None:
    found: list[bool] = []
    with flush_denormals():
        thread = threading.Thread(target=lambda: found.append(share_of_denormals() == 0))
        thread.start()
        thread.join()
    assert share_of_denormals() == 1


@pytest.mark.parametrize("dtype", DENORMAL, ids=str)
@pytest.mark.parametrize("flushed", [False, True])
def test_denormal_values_are_found(dtype: torch.dtype, flushed: bool) -> None:
    tiny = torch.finfo(dtype).tiny
    x = torch.tensor(
        [DENORMAL[dtype], -DENORMAL[dtype], 0.0, -0.0, tiny, -tiny, 1.0, torch.inf, torch.nan], dtype=dtype
    )
    with flush_denormals(flushed):
        assert is_denormal(x).tolist() == [True, True, *[False] * 7]
        rounded = without_denormals(x)
    assert torch.equal(rounded[2:8], x[2:8])
    assert rounded[:2].tolist() == [0, 0]
    assert torch.signbit(rounded[3])  # a negative zero is no denormal number


def test_half_precision_keeps_its_smallest_values() -> None:
    x = torch.tensor([6e-8, 1e-5], dtype=torch.float16)
    assert torch.equal(without_denormals(x), x)
    assert without_denormals(torch.tensor([1, 2])).tolist() == [1, 2]
    assert is_denormal(torch.full((4, 3), 1e-40).t()).all()


def test_none_are_saved(tmp_path: Path) -> None:
    ae = aezoo.build(aezoo.get_spec("fc-16"))
    with torch.no_grad():
        next(ae.parameters()).view(-1)[:100] = 1e-40
    loaded = aezoo.load(aezoo.save(ae, tmp_path / "saved"))
    assert int((next(loaded.parameters()).view(-1)[:100] == 0).sum()) == 100
    # The network itself is not changed by saving it.
    assert is_denormal(next(ae.parameters()).view(-1)[:100]).all()


def test_training_leaves_none() -> None:
    spec = aezoo.get_spec("fc-16").replace(
        {"recipe.stages.0.epochs": 1, "recipe.refit": False, "recipe.numerics": 2}
    )
    found: list[bool] = []

    class Watch(aezoo.Callback):
        def after_step(self, state: aezoo.TrainingState) -> None:
            found.append(flushes_denormals())

        def on_epoch_end(self, state: aezoo.TrainingState) -> None:
            found.append(flushes_denormals())

    ae = aezoo.train(spec, torch.rand(200, 1, 28, 28), progress=False, callbacks=[Watch()])
    assert all(found)
    assert not flushes_denormals()
    assert not any(is_denormal(tensor).any() for tensor in ae.state_dict().values())


@pytest.mark.parametrize("name", aezoo.list_variants())
def test_no_variant_has_any(name: str) -> None:
    for tensor, values in aezoo.load(name).state_dict().items():
        assert not is_denormal(values).any(), tensor
