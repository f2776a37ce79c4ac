"""Images of any format, mode and depth, by every way in: a value arrives as Pillow reads it, or is refused."""

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import aezoo
from aezoo.data import pixels as images
from aezoo.data.datasets.images import ImagesSpec
from aezoo.data.inputs import prepare_splits
from aezoo.data.transforms import Transforms
from aezoo.specs.tensor import TensorSpec
from tests.data import odd_images
from tests.data.generated import picture
from tests.data.networks import saved_and_loaded, shape_spec, tiny_variant, train_quietly
from tests.data.raising import data_error
from tests.data.splits import inputs_of

FOLDER = Path("photos")
opened: list[Image.Image] = []


def open_image(path: Path) -> Image.Image:
    """Opens an image, which the fixture closes."""
    opened.append(Image.open(path))
    return opened[-1]


@pytest.fixture(autouse=True)
def folder() -> Iterator[None]:
    FOLDER.mkdir()
    yield
    while opened:
        opened.pop().close()


# -- ways in ------------------------------------------------------------------------------------------


class Opened:
    """A map-style dataset that opens an image file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return open_image(self.path), index


def from_folder(path: Path, channels: int) -> torch.Tensor:
    size = image_size(path)
    spec = shape_spec((channels, *size))
    dataset = ImagesSpec.model_validate({
        "path": str(path.parent), "size": size, "channels": channels, "fit": "exact"
    })  # fmt: skip
    return dataset.read().validated_for(spec).batch(slice(0, 1), spec).input


def from_dataset(path: Path, channels: int) -> torch.Tensor:
    spec = shape_spec((channels, *image_size(path)))
    return prepare_splits(Opened(path), spec, seed=0).train.batch(slice(0, 1), spec).input


def from_list(path: Path, channels: int) -> torch.Tensor:
    spec = shape_spec((channels, *image_size(path)))
    data = [open_image(path), open_image(path)]
    return prepare_splits(data, spec, seed=0).train.batch(slice(0, 1), spec).input


def from_transforms(path: Path, channels: int) -> torch.Tensor:
    return Transforms(TensorSpec(shape=(channels, *image_size(path)), range=(0.0, 1.0)))(open_image(path))


WAYS: dict[str, Callable[[Path, int], torch.Tensor]] = {
    "folder": from_folder, "dataset": from_dataset, "list": from_list, "transforms": from_transforms,
}  # fmt: skip
every_way = pytest.mark.parametrize("way", WAYS)


def image_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size[1], image.size[0]
    except Exception:
        return 4, 4


def fixed_size(path: Path) -> tuple[int, int]:
    return 30, 20


def ramp(white: int) -> NDArray[np.uint16]:
    """16 values from 0 to white, (4, 4)."""
    return np.linspace(0, white, 16).round().astype(np.uint16).reshape(4, 4)


# -- more than 8 bits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "a.jp2"])
@pytest.mark.parametrize("way", ["folder", "transforms"])
def test_sixteen_bits_keep_every_level(way: str, name: str) -> None:
    Image.fromarray(ramp(65535)).save(FOLDER / name)
    expected = torch.from_numpy(ramp(65535).astype(np.float32)) / 65535
    torch.testing.assert_close(WAYS[way](FOLDER / name, 1)[0, 0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("bits", "white"), [(12, 4095), (16, 65535)])
@pytest.mark.parametrize("way", ["dataset", "list"])
def test_items_of_more_than_eight_bits_are_refused_with_what_to_pass(way: str, bits: int, white: int) -> None:
    # A data set is stacked before the range of the input is known.
    odd_images.tiff(FOLDER / "a.tif", ramp(white), bits=bits)
    with data_error(
        "item 0 is a PIL image of mode I;16; convert would clip it at 255, so pass an array scaled to the "
        f"input's range: numpy.array(image) / {white} for 0 to 1"
    ):
        WAYS[way](FOLDER / "a.tif", 1)


@pytest.mark.parametrize("way", ["folder", "transforms"])
def test_twelve_bits_that_the_file_states_are_scaled_by_them(way: str) -> None:
    odd_images.tiff(FOLDER / "a.tif", ramp(4095), bits=12)
    expected = torch.from_numpy(ramp(4095).astype(np.float32)) / 4095
    torch.testing.assert_close(WAYS[way](FOLDER / "a.tif", 1)[0, 0], expected, atol=1e-4, rtol=0)


def test_twelve_bits_that_the_file_does_not_state_keep_their_levels_and_are_reported() -> None:
    Image.fromarray(ramp(4095)).save(FOLDER / "a.png")
    with pytest.warns(aezoo.DiagnosticWarning, match="unused-bits: no 16-bit value is above 4095, .* 4095"):
        x = from_folder(FOLDER / "a.png", 1)
    assert len(np.unique(x.numpy())) == 16
    torch.testing.assert_close(x[0, 0] * 65535, torch.from_numpy(ramp(4095).astype(np.float32)))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_white_scales_to_the_whole_range_in_training_and_in_transforms(name: str) -> None:
    for index in range(6):
        Image.fromarray(np.roll(ramp(4095), index)).save(FOLDER / f"{index}{name}")
    dataset = {"kind": "images", "path": "photos", "size": (4, 4), "channels": 1, "white": 4095}
    ae = saved_and_loaded(train_quietly(tiny_variant((1, 4, 4), (-1.0, 1.0), dataset=dataset)))
    x = ae.transforms()(open_image(FOLDER / f"0{name}"))
    expected = torch.from_numpy(ramp(4095).astype(np.float32)) / 4095 * 2 - 1
    torch.testing.assert_close(x[0, 0], expected, atol=5e-5, rtol=0)
    samples = ImagesSpec.model_validate(dataset).read().validated_for(ae.spec)
    torch.testing.assert_close(samples.batch(slice(0, 1), ae.spec).input, x)


@pytest.mark.parametrize("value", [np.int32(70000), np.float32(0.5), np.float32("nan"), np.int32(-1)])
def test_values_outside_white_are_refused(value: Any) -> None:
    made = np.zeros((4, 4), value.dtype)
    made[1, 2] = value
    Image.fromarray(made).save(FOLDER / "a.tif")
    mode = "I" if made.dtype == np.int32 else "F"
    with data_error(f"photos/a.tif: the white level of a PIL image of mode {mode} is undefined"):
        from_folder(FOLDER / "a.tif", 1)
    dataset = ImagesSpec(path="photos", size=(4, 4), channels=1, white=1.0)
    if value == 0.5:
        assert float(dataset.read().inputs.max()) == 0.5
    else:
        with data_error("photos/a.tif: expected values from 0 to 1, which is white, found "):
            dataset.read()


def test_eight_bit_images_keep_their_values_beside_sixteen_bits() -> None:
    eight = picture(4, 4).convert("L")
    eight.save(FOLDER / "a.png")
    Image.fromarray(ramp(65535)).save(FOLDER / "b.png")
    spec = shape_spec((1, 4, 4))
    dataset = ImagesSpec(path="photos", size=(4, 4), channels=1)
    x = dataset.read().validated_for(spec).batch(slice(None), spec).input
    torch.testing.assert_close(x[0, 0], torch.from_numpy(np.array(eight)) / 255)
    torch.testing.assert_close(x[1, 0], torch.from_numpy(ramp(65535).astype(np.float32)) / 65535)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_gray_becomes_colour(channels: int) -> None:
    Image.fromarray(ramp(65535)).save(FOLDER / "a.png")
    x = from_folder(FOLDER / "a.png", channels)[0]
    for channel in x[:3]:
        torch.testing.assert_close(channel, torch.from_numpy(ramp(65535).astype(np.float32)) / 65535)
    assert (x[3:] == 1).all()


def test_sixteen_bits_are_resized_and_turned_as_eight_bits_are() -> None:
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    small = np.random.default_rng(0).integers(0, 256, (9, 14), np.uint8)
    for name, values in (("a", small), ("b", small.astype(np.uint16) * 257)):
        Image.fromarray(values).save(FOLDER / f"{name}.png", exif=exif)
    for fit in ("crop", "stretch"):
        x = ImagesSpec(path="photos", size=(5, 4), channels=1, fit=fit).read().inputs
        torch.testing.assert_close(x[0], x[1], atol=1 / 255, rtol=0)


def test_big_endian_values_are_read_as_they_are() -> None:
    image = Image.frombytes("I;16B", (4, 4), ramp(65535).astype(">u2").tobytes())
    x = Transforms(TensorSpec(shape=(1, 4, 4), range=(0.0, 1.0)))(image)
    torch.testing.assert_close(x[0, 0], torch.from_numpy(ramp(65535).astype(np.float32)) / 65535)


def test_decoded_file_of_sixteen_bits_equals_memory(decoded: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(80):
        Image.fromarray(rng.integers(0, 65536, (128, 128), np.uint16)).save(FOLDER / f"{index:02}.png")

    def load(memory: int) -> torch.Tensor:
        dataset = ImagesSpec(path="photos", size=(128, 128), channels=1, memory_mib=memory)
        return inputs_of(dataset.load("train"))

    assert torch.equal(load(1), load(100))
    assert torch.equal(load(1), load(100))
    assert [path.suffix for path in sorted(decoded.iterdir())] == [".f32", ".json"]


# -- what Pillow leaves out or changes ------------------------------------------------------------------


def frames(path: Path) -> None:
    first, *rest = (picture(4, 4, seed=seed).convert("L") for seed in range(3))
    first.save(path, save_all=True, append_images=rest)


def described(path: Path, description: str) -> None:
    """A TIFF of one page whose description says that further planes follow it."""
    picture(4, 4).convert("L").save(path, description=description)


UP = (ramp(15) * 16).astype(np.uint8)
LOST: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "pages": ("a.tif", frames, "the image has 3 frames or pages, of which one would be read"),
    "GIF frames": ("a.gif", frames, "the image has 3 frames or pages"),
    "APNG frames": ("a.png", frames, "the image has 3 frames or pages"),
    "WebP frames": ("a.webp", frames, "the image has 3 frames or pages"),
    "stack of ImageJ": (
        "a.tif", lambda p: described(p, "ImageJ=1.54\nimages=6\nslices=6"), "the image has 6 frames or pages",
    ),
    "stack of tifffile": ("a.tif", lambda p: described(p, '{"shape": [3, 4, 4]}'), "the image has 3 frames"),
    "signed bytes": (
        "a.tif", lambda p: odd_images.tiff(p, UP.view(np.int8), sample_format=2), "the values are signed",
    ),
    "signed 16 bits": (
        "a.tif", lambda p: odd_images.tiff(p, UP.astype(np.int16), sample_format=2), "white level",
    ),
    "two channels": (
        "a.tif", lambda p: odd_images.tiff(p, np.stack([UP, UP.T], -1), extra_samples=0),
        "the image has extra channels|PIL image of mode LA",
    ),
    "near infrared": (
        "a.tif", lambda p: odd_images.tiff(p, np.stack([UP] * 4, -1), photometric=2, extra_samples=0),
        "the image has extra channels",
    ),
    "five channels": ("a.tif", lambda p: odd_images.tiff(p, np.stack([UP] * 5, -1)), "cannot be decoded"),
    "white is zero": (
        "a.tif", lambda p: odd_images.tiff(p, ramp(65535), photometric=0), "white is stored as 0",
    ),
    "16-bit RGB PNG": (
        "a.png", lambda p: odd_images.png(p, np.stack([ramp(4095)] * 3, -1)), "the channels have 16 bits",
    ),
    "16-bit gray PNG with opacity": (
        "a.png", lambda p: odd_images.png(p, np.stack([ramp(4095)] * 2, -1)),
        "the channels have 16 bits|PIL image of mode LA",
    ),
    "16-bit RGB TIFF": (
        "a.tif", lambda p: odd_images.tiff(p, np.stack([ramp(4095)] * 3, -1), photometric=2),
        "the channels have 16 bits",
    ),
    "transparent": (
        "a.png", lambda p: Image.new("RGBA", (4, 4), (255, 0, 0, 9)).save(p), "transparent|expected samples of",
    ),
    "transparent gray": (
        "a.png", lambda p: Image.new("LA", (4, 4), (255, 9)).save(p), "transparent|PIL image of mode LA",
    ),
    "transparent colour": (
        "a.png", lambda p: Image.new("RGB", (4, 4)).save(p, transparency=(0, 0, 0)), "transparent",
    ),
    "transparent palette": (
        "a.png", lambda p: Image.new("P", (4, 4)).save(p, transparency=0), "transparent|PIL image of mode P",
    ),
    "EPS": ("a.eps", lambda p: Image.new("L", (4, 4)).save(p), "no image in one of the formats|the format EPS is not read"),
    "EPS called PNG": (
        "a.png", lambda p: Image.new("L", (4, 4)).save(p, "EPS"), "no image in one of the formats|the format EPS is not read",
    ),
    "icon": ("a.ico", lambda p: Image.new("RGB", (16, 16)).save(p), "no image in one of the formats|the format ICO is not read"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::aezoo.DiagnosticWarning")
@pytest.mark.parametrize("what", LOST)
@every_way
def test_what_would_be_lost_is_refused(way: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, write, words = LOST[what]
    write(FOLDER / name)

    def started(*_: object, **__: object) -> None:
        raise AssertionError("an outside program is started")

    monkeypatch.setattr("subprocess.check_call", started)
    monkeypatch.setattr("subprocess.Popen", started)
    try:
        channels = 1 if len(open_image(FOLDER / name).getbands()) < 3 else 3
    except Exception:
        channels = 1
    if what == "five channels" and way != "folder":
        return  # Pillow does not open it.
    with pytest.raises(aezoo.DataError, match=words) as error:
        WAYS[way](FOLDER / name, channels)
    assert "\n" not in str(error.value)
    assert {"folder": name, "transforms": "", "dataset": "", "list": ""}[way] in str(error.value)


def test_shape_of_one_plane_is_no_stack() -> None:
    described(FOLDER / "a.tif", '{"shape": [1, 4, 4]}')
    assert from_folder(FOLDER / "a.tif", 1).shape == (1, 1, 4, 4)


@every_way
def test_gray_with_an_opaque_alpha_channel_loses_nothing(way: str) -> None:
    gray = picture(4, 4).convert("L")
    gray.convert("RGBA").save(FOLDER / "a.png")
    x = WAYS[way](FOLDER / "a.png", 4)[0]
    torch.testing.assert_close(x[0], torch.from_numpy(np.array(gray)) / 255)
    if way in ("folder", "transforms"):
        torch.testing.assert_close(WAYS[way](FOLDER / "a.png", 1)[0], x[:1])


OPAQUE: dict[str, Any] = {
    "1": 1, "L": 90, "LA": (90, 255), "La": (90, 255), "P": 1, "PA": (1, 255), "RGB": (9, 80, 200),
    "RGBA": (9, 80, 200, 255), "RGBa": (9, 80, 200, 255), "RGBX": (9, 80, 200, 7), "CMYK": (9, 80, 200, 30),
    "YCbCr": (9, 80, 200), "HSV": (9, 80, 200), "LAB": (9, 80, 200),
}  # fmt: skip
"""Mode -> an opaque colour."""


@pytest.mark.parametrize("channels", images.PIL_MODES)
@pytest.mark.parametrize("mode", OPAQUE)
def test_opaque_images_of_every_mode_are_read_as_pillow_reads_them(mode: str, channels: int) -> None:
    image = Image.new(mode, (4, 4), OPAQUE[mode])
    transform = Transforms(TensorSpec(shape=(channels, 4, 4), range=(0.0, 1.0)))
    if (mode, channels) == ("LAB", 1):
        with data_error("a PIL image of mode LAB cannot be converted to L; pass an array"):
            transform(image)
        return
    plain = image.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode))
    expected = np.atleast_3d(np.asarray(plain.convert(images.PIL_MODES[channels]))).transpose(2, 0, 1)
    torch.testing.assert_close(transform(image)[0], torch.from_numpy(expected.copy()) / 255)


@every_way
def test_orientation_is_applied_by_every_way(way: str) -> None:
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    picture(8, 8).save(FOLDER / "a.png", exif=exif)
    upright = np.rot90(np.asarray(picture(8, 8)), 3).transpose(2, 0, 1)
    torch.testing.assert_close(WAYS[way](FOLDER / "a.png", 3)[0], torch.from_numpy(upright.copy()) / 255)


def test_photographs_of_phones_with_a_second_picture_are_read() -> None:
    first, second = picture(8, 8), picture(4, 4)
    first.save(FOLDER / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(FOLDER / "a.jpg") as image:
        assert image.format == "MPO"
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(ImagesSpec(path="photos", size=(8, 8)).read().inputs[0], expected)


@pytest.mark.parametrize("way", ["dataset", "list", "transforms"])
def test_a_copy_of_one_frame_is_accepted(way: str) -> None:
    frames(FOLDER / "a.gif")
    image = open_image(FOLDER / "a.gif")
    image.seek(1)
    image.copy().convert("L").save(FOLDER / "b.png")
    assert WAYS[way](FOLDER / "b.png", 1).shape == (1, 1, 4, 4)


# -- size and damage ------------------------------------------------------------------------------------


@every_way
def test_too_many_pixels_are_refused_before_they_are_decoded(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(30, 20).save(FOLDER / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("the pixels are decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if way != "folder" else "error", Image.DecompressionBombWarning)
        monkeypatch.setattr("tests.data.test_pixels.image_size", fixed_size)
        with data_error("20 x 30 pixels are more than 500, the limit PIL.Image.MAX_IMAGE_PIXELS"):
            WAYS[way](FOLDER / "a.png", 3)


@every_way
def test_truncated_file_is_one_line(way: str) -> None:
    picture(30, 20).save(FOLDER / "a.png")
    (FOLDER / "a.png").write_bytes((FOLDER / "a.png").read_bytes()[:600])
    words = {"folder": "photos/a.png cannot be decoded", "transforms": "photos/a.png: the image cannot"}
    with data_error(words.get(way, "item 0: the image cannot be decoded: ")):
        WAYS[way](FOLDER / "a.png", 3)


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_image_without_pixels_is_refused(mode: str) -> None:
    image = Image.new(mode, (0, 4))
    with data_error("the image has no pixels: 0 x 4"):
        Transforms(TensorSpec(shape=(1, 4, 4), range=(0.0, 1.0)))(image)
    with data_error("item 0: the image has no pixels: 0 x 4"):
        prepare_splits([image, image], shape_spec((1, 4, 4)), seed=0)


def test_formats_that_start_programs_are_not_in_the_list() -> None:
    assert not {"EPS", "WMF", "PDF", "MPEG", "HDF5"} & set(images.FORMATS)
    assert re.fullmatch("[A-Z0-9 ]+", " ".join(images.FORMATS))
