from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from aezoo.data.transforms import ResizeMode, Scaler, Transforms, scale_bytes
from aezoo.specs.tensor import TensorSpec
from tests.data.generated import numbers, picture
from tests.data.raising import data_error

RED = (255, 0, 0)
RED_AS_GRAY = 76  # 0.299 of 255, ITU-R BT.601
MIDDLE = (100, 100, 100)


def transforms(
    *shape: int, range: tuple[float, float] | None = (0.0, 1.0), resize_mode: ResizeMode = "stretch"
) -> Transforms:
    return Transforms(TensorSpec(shape=shape, range=range), resize_mode=resize_mode)


def assert_is_batch(x: torch.Tensor, shape: tuple[int, ...]) -> None:
    assert x.shape[1:] == shape
    assert x.dtype == torch.float32
    assert x.is_contiguous()


# -- PIL images ---------------------------------------------------------------------------------------


def image(mode: str, colour: Any) -> Image.Image:
    made = Image.new(mode, (5, 4), colour)
    if mode == "P":
        made.putpalette([0, 0, 0, *RED])
    return made


@pytest.mark.parametrize(
    ("mode", "colour", "gray", "rgb"),
    [
        ("1", 1, 255, (255, 255, 255)),
        ("L", 100, 100, MIDDLE),
        ("LA", (100, 255), 100, MIDDLE),
        ("P", 1, RED_AS_GRAY, RED),
        ("RGB", RED, RED_AS_GRAY, RED),
        ("RGBA", (*RED, 255), RED_AS_GRAY, RED),
        ("CMYK", (0, 255, 255, 0), RED_AS_GRAY, RED),
        ("YCbCr", (100, 128, 128), 100, MIDDLE),
        ("I;16", 100 * 257, 100, MIDDLE),
    ],
)
def test_images_of_any_mode_become_gray_or_rgb(mode: str, colour: Any, gray: int, rgb: Any) -> None:
    x = transforms(1, 4, 5)(image(mode, colour))
    assert_is_batch(x, (1, 4, 5))
    assert torch.equal(x, torch.full((1, 1, 4, 5), gray / 255))
    x = transforms(3, 4, 5)(image(mode, colour))
    assert_is_batch(x, (3, 4, 5))
    assert torch.equal(x, (torch.tensor(rgb) / 255).view(1, 3, 1, 1).expand(1, 3, 4, 5))


def test_four_channels_keep_transparency() -> None:
    x = transforms(4, 4, 5)(image("RGBA", (255, 0, 51, 102)))
    assert_is_batch(x, (4, 4, 5))
    assert x[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2, 0.4])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_image_with_undefined_white_level_is_rejected(mode: str) -> None:
    with data_error(f"the white level of a PIL image of mode {mode} is undefined; pass an array"):
        transforms(1, 4, 5)(Image.new(mode, (5, 4)))


def test_pixels_keep_their_position() -> None:
    dot = Image.new("L", (5, 4))
    dot.putpixel((3, 1), 255)
    assert transforms(1, 4, 5)(dot).nonzero().tolist() == [[0, 0, 1, 3]]
    assert dot.getpixel((3, 1)) == 255


def to_bytes(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).movedim(-1, 0)[None]


@pytest.mark.parametrize("size", [(6, 8), (16, 8), (5, 20), (3, 3)])
@pytest.mark.parametrize("original", [(12, 16), (9, 30), (31, 7), (3, 3)])
def test_stretch_scales_axes_independently(original: tuple[int, int], size: tuple[int, int]) -> None:
    expected = picture(*original).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    assert torch.equal(transforms(3, *size)(picture(*original)), to_bytes(expected) / 255)


@pytest.mark.parametrize(
    ("original", "size", "box"),
    [
        ((12, 16), (6, 8), (0, 0, 16, 12)),
        ((12, 20), (6, 8), (2, 0, 18, 12)),
        ((20, 16), (6, 8), (0, 4, 16, 16)),
        ((4, 10), (8, 8), (3, 0, 7, 4)),
        ((6, 8), (6, 8), (0, 0, 8, 6)),
    ],
)
def test_crop_keeps_the_largest_centered_box(original: Any, size: tuple[int, int], box: Any) -> None:
    expected = picture(*original).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    assert torch.equal(transforms(3, *size, resize_mode="crop")(picture(*original)), to_bytes(expected) / 255)


def test_crop_of_the_right_height_does_not_resample() -> None:
    image = picture(6, 20)
    x = transforms(3, 6, 8, resize_mode="crop")(image)
    assert torch.equal(x, to_bytes(image.crop((6, 0, 14, 6))) / 255)


def test_resizing_antialiases() -> None:
    stripes = np.zeros((16, 16), np.uint8)
    stripes[:, ::2] = 255
    x = transforms(1, 4, 4)(Image.fromarray(stripes))
    # Without antialiasing, the pixels would be black or white.
    assert float(x.min()) > 0.4
    assert float(x.max()) < 0.6


@pytest.mark.parametrize("shape", [(20,), (2, 4, 5), (4, 5)])
def test_image_is_rejected_if_the_input_is_not_an_image(shape: tuple[int, ...]) -> None:
    with data_error(f"found an image, but this variant expects shape {list(shape)}"):
        transforms(*shape)(image("L", 0))


# -- arrays and tensors -------------------------------------------------------------------------------

GRAY = (1, 4, 5)
COLOUR = (3, 4, 5)
VECTOR = (6,)


def values(n: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    drawn = np.random.default_rng(0).integers(0, 256, (n, *shape))
    return drawn.astype(dtype) if dtype is np.uint8 else (drawn / 255).astype(dtype)


def channels_last(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(array, -3, -1))


Change = Callable[[NDArray[Any]], NDArray[Any]]
LAYOUTS: dict[str, tuple[tuple[int, ...], int, Change]] = {
    "HW gray": (GRAY, 1, lambda a: a[0, 0]),
    "CHW gray": (GRAY, 1, lambda a: a[0]),
    "NHW gray": (GRAY, 2, lambda a: a[:, 0]),
    "NCHW gray": (GRAY, 2, lambda a: a),
    "CHW colour": (COLOUR, 1, lambda a: a[0]),
    "NCHW colour": (COLOUR, 2, lambda a: a),
    "F": (VECTOR, 1, lambda a: a[0]),
    "NF": (VECTOR, 2, lambda a: a),
}
CHANNELS_LAST: dict[str, tuple[tuple[int, ...], int, Change]] = {
    "HWC gray": (GRAY, 1, lambda a: channels_last(a[0])),
    "NHWC gray": (GRAY, 2, channels_last),
    "HWC colour": (COLOUR, 1, lambda a: channels_last(a[0])),
    "NHWC colour": (COLOUR, 2, channels_last),
}
"""Name -> shape of a sample, number of samples, conversion from (n, *shape)."""


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", LAYOUTS | CHANNELS_LAST)
def test_layouts_of_arrays(name: str, dtype: type) -> None:
    shape, n, layout = (LAYOUTS | CHANNELS_LAST)[name]
    array = values(n, shape, dtype)
    given_array = layout(array).copy()
    x = transforms(*shape)(given_array)
    assert_is_batch(x, shape)
    assert len(x) == n
    assert torch.allclose(x, torch.from_numpy(values(n, shape, np.float32)), atol=5e-4, rtol=0)
    assert np.array_equal(given_array, layout(array))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_tensors(name: str, dtype: torch.dtype) -> None:
    shape, n, layout = LAYOUTS[name]
    kind = np.uint8 if dtype == torch.uint8 else np.float32
    given_tensor = torch.from_numpy(layout(values(n, shape, kind))).to(dtype)
    before = given_tensor.clone()
    x = transforms(*shape)(given_tensor)
    assert_is_batch(x, shape)
    assert len(x) == n
    assert torch.allclose(x, torch.from_numpy(values(n, shape, np.float32)), atol=4e-3, rtol=0)
    assert torch.equal(given_tensor, before)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


MEMORY_LAYOUTS: dict[str, Change] = {
    "negative strides": lambda a: a[:, :, ::-1, ::-1],
    "big endian": lambda a: a.astype(">f4"),
    "column major": lambda a: np.asfortranarray(a),
    "read-only": read_only,
}


@pytest.mark.usefixtures("every_warning")
@pytest.mark.parametrize("kind", MEMORY_LAYOUTS)
def test_memory_layout_of_an_array_does_not_matter(kind: str) -> None:
    array = MEMORY_LAYOUTS[kind](values(2, GRAY, np.float32))
    x = transforms(*GRAY)(array)
    assert_is_batch(x, GRAY)
    assert np.array_equal(x.numpy(), array)


@pytest.mark.usefixtures("every_warning")
def test_tensor_that_requires_grad_gives_no_warning() -> None:
    x = torch.rand(2, 6, requires_grad=True)
    assert torch.equal(transforms(6)(x), x)


def test_array_of_the_right_shape_keeps_its_axes() -> None:
    cube = values(1, (3, 3, 3), np.float32)[0]
    assert np.array_equal(transforms(3, 3, 3)(cube)[0].numpy(), cube)


def test_list_gives_one_sample_per_entry() -> None:
    white = np.ones((4, 5), np.float32)
    x = transforms(*GRAY)(
        [Image.new("L", (5, 4)), white, torch.from_numpy(white), white.astype(np.uint8) * 51]
    )
    assert_is_batch(x, GRAY)
    assert x.mean((1, 2, 3)).tolist() == pytest.approx([0.0, 1.0, 1.0, 0.2])
    assert torch.equal(transforms(*GRAY)((white, white)), torch.ones(2, *GRAY))


def test_bytes_are_scaled_to_the_range_and_floats_are_not() -> None:
    both_sides = transforms(3, range=(-1.0, 1.0))
    assert both_sides(np.array([0, 51, 255], np.uint8)).tolist() == [[-1.0, pytest.approx(-0.6), 1.0]]
    assert both_sides(np.array([-1.0, 0.5, 1.0])).tolist() == [[-1.0, 0.5, 1.0]]


def test_without_range_any_finite_value_is_valid() -> None:
    assert transforms(2, range=None)(torch.tensor([-1e9, 1e9])).tolist() == [[-1e9, 1e9]]


def test_range_includes_both_ends() -> None:
    # As float32, 0.7 and 2.8215 are a little smaller than as float64.
    for ends in ((0.7, 1.0), (-0.4242, 2.8215)):
        x = torch.tensor(ends)
        assert torch.equal(transforms(2, range=ends)(x), x[None])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((1, 4, 5), np.int64), "expected uint8 or floating point, found torch.int64"),
        (np.zeros((1, 4, 5), bool), "expected uint8 or floating point, found torch.bool"),
        (torch.zeros(1, 4, 5, dtype=torch.complex64), "expected uint8 or floating point, found torch.complex64"),
        (torch.zeros(5, 4), "expected samples of shape [1, 4, 5], found [5, 4]"),
        (torch.zeros(2, 3, 4, 5), "expected samples of shape [1, 4, 5], found [2, 3, 4, 5]"),
        (np.zeros((4, 5, 3), np.float32), "expected samples of shape [1, 4, 5], found [4, 5, 3]"),
        (torch.tensor(0.5), "expected samples of shape [1, 4, 5], found []"),
        (np.full((4, 5), 255.0), "expected values in [0.0, 1.0], found 255 to 255; pass bytes as uint8 to have"),
        (torch.full((4, 5), -0.01), "expected values in [0.0, 1.0], found -0.01 to -0.01"),
        (np.full((4, 5), np.inf), "the value at index (0, 0, 0, 0) is not finite"),
        (np.zeros((0, 4, 5), np.float32), "expected at least one value, found an empty array"),
        (np.zeros((0, 4, 5), np.uint8), "expected at least one value, found an empty array"),
        ([], "expected at least one sample, found an empty list"),
        ("digit.png", "there is no file digit.png"),
        (["digit.png"], "there is no file digit.png"),
        ([[0.0, 1.0]], "expected a PIL image, a path, a NumPy array or a tensor, found float"),
        (None, "expected a PIL image, a path, a NumPy array or a tensor, found NoneType"),
        (np.array([None]), "expected a dtype that PyTorch supports, found an array of object"),
        (np.array(["a"]), "expected a dtype that PyTorch supports, found an array of <U1"),
    ],
)  # fmt: skip
def test_invalid_data_are_rejected(data: object, words: str) -> None:
    with data_error(words):
        transforms(1, 4, 5)(data)


def test_index_of_a_value_that_is_not_finite_is_named() -> None:
    x = torch.zeros(3, 1, 4, 5)
    x[2, 0, 1, 3] = torch.nan
    with data_error("the value at index (2, 0, 1, 3) is not finite"):
        transforms(1, 4, 5)(x)


def test_bytes_need_a_range() -> None:
    with data_error("uint8 data need `input.range` in the spec"):
        transforms(2, range=None)(torch.zeros(2, dtype=torch.uint8))


def test_repr() -> None:
    text = "Transforms(-> float32 (batch, 3, 32, 32), {})"
    assert repr(transforms(3, 32, 32, range=(-1.0, 1.0))) == text.format("values in [-1.0, 1.0]")
    assert repr(transforms(3, 32, 32, range=None)) == text.format("any value")


# -- scaling ------------------------------------------------------------------------------------------


@given(low=st.floats(-100, 100), span=st.floats(0.1, 100))
def test_scaled_bytes_are_increasing_and_reach_both_ends(low: float, span: float) -> None:
    ends = (low, low + span)
    scaled = scale_bytes(torch.arange(256, dtype=torch.uint8), ends)
    assert torch.equal(scaled[[0, 255]], torch.tensor(ends, dtype=torch.float32))
    assert bool((scaled.diff() > 0).all())
    assert torch.equal(transforms(256, range=ends)(scaled), scaled[None])


def test_scaling_bytes_to_0_and_1_divides_by_255() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(scale_bytes(every, (0.0, 1.0)), every.float() / 255)
    assert int(every[255]) == 255


def test_scaler_standardizes_and_inverts() -> None:
    x = torch.from_numpy(numbers(100, 2, 3))
    scaler = Scaler.fit(x)
    scaled = scaler(x)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(2, 3))
    torch.testing.assert_close(scaler.inverse(scaled), x)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e20, 1e-30])
def test_scaler_maps_constant_values_to_zero(value: float) -> None:
    x = torch.full((1000, 1), value)
    assert Scaler.fit(x)(x).eq(0).all()
    # In double precision, the standard deviation of a constant can be a rounding error above 0.
    assert Scaler.fit(torch.full((1000, 1), value, dtype=torch.float64)).scale.eq(1).all()


def test_scaler_does_not_treat_small_values_as_constant() -> None:
    x = torch.tensor([[1e-12], [3e-12]])
    torch.testing.assert_close(Scaler.fit(x)(x), torch.tensor([[-1.0], [1.0]]))
