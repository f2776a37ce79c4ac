import errno
import io
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import aezoo
from aezoo.data.datasets import images
from aezoo.data.datasets.images import ImagesSpec
from aezoo.data.samples import Samples
from tests.data.generated import image_folder, picture
from tests.data.networks import saved_and_loaded, tiny_variant, train_quietly
from tests.data.raising import data_error
from tests.data.splits import SPLITS, inputs_of, labels_of

FOLDER = Path("photos")


@pytest.fixture(autouse=True)
def folder() -> None:
    FOLDER.mkdir()


def read(size: tuple[int, int] = (6, 8), path: str = "photos", **options: Any) -> Samples:
    """Every image of a folder, in sorted order."""
    return ImagesSpec(path=path, size=size, **options).read()


def read_one(*args: Any, **options: Any) -> torch.Tensor:
    (image,) = read(*args, **options).inputs
    return image


def channels_first(image: Image.Image) -> NDArray[np.uint8]:
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


# -- formats, labels and hidden files -----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.jpeg", "a.bmp", "a.gif", "a.webp", "a.tiff", "a.tif", "A.PNG"]
)
@pytest.mark.parametrize("fit", ["crop", "exact"])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_formats(name: str, fit: str, channels: int, mode: str) -> None:
    picture(6, 8).save(FOLDER / name)
    with Image.open(FOLDER / name) as image:
        expected = channels_first(image.convert(mode))
    assert np.array_equal(read_one(fit=fit, channels=channels), expected)


QUARTER_TURNS = {1: 0, 3: 2, 6: 3, 8: 1}
"""EXIF orientation -> quarter turns to the left that put the image upright."""


@pytest.mark.parametrize("orientation", QUARTER_TURNS)
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(8, 8).save(FOLDER / "a.png", exif=exif)
    upright = np.rot90(np.asarray(picture(8, 8)), QUARTER_TURNS[orientation]).transpose(2, 0, 1)
    assert np.array_equal(read_one((8, 8)), upright)


def test_top_level_subfolder_is_the_label() -> None:
    for index, name in enumerate(["dog/1.png", "cat/young/1.png", "cat/2.png", "emu/0.png"]):
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        picture(6, 8, seed=index).save(FOLDER / name)
    samples = read()
    assert labels_of(samples).tolist() == [0, 0, 1, 2]
    assert np.array_equal(samples.inputs[2], channels_first(picture(6, 8, seed=0)))


@pytest.mark.parametrize("subfolder", [None, "dog"])
def test_no_labels_unless_every_image_is_in_a_subfolder(subfolder: str | None) -> None:
    image_folder(3)
    if subfolder is not None:
        image_folder(2, path=f"photos/{subfolder}")
    assert read().labels is None


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "labels.csv", "Thumbs.db", "paper.pdf", "no_suffix", ".hidden.png", "._000.png", ".cache/a.png"],
)  # fmt: skip
def test_hidden_files_and_other_formats_are_ignored(name: str) -> None:
    image_folder(2)
    (FOLDER / name).parent.mkdir(exist_ok=True)
    (FOLDER / name).write_bytes(b"not an image")
    assert len(read()) == 2


def test_images_of_a_hidden_folder_are_read_if_it_is_named() -> None:
    assert len(read(path=str(image_folder(2, path=".photos")))) == 2


def test_link_to_a_missing_file_is_named() -> None:
    image_folder(2)
    (FOLDER / "a.png").symlink_to("annex-1234")
    with data_error("photos/a.png cannot be decoded: [Errno 2] No such file"):
        read()


def test_linked_folders_are_followed_once() -> None:
    image_folder(3, path="elsewhere/cat")
    image_folder(2, path="photos/dog")
    (FOLDER / "cat").symlink_to(Path("elsewhere/cat").resolve())
    (FOLDER / "dog" / "up").symlink_to(FOLDER.resolve())
    assert labels_of(read()).tolist() == [0, 0, 0, 1, 1]


def test_folder_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(2, path="photos/dog")
    listed = os.scandir

    def scandir(path: Path) -> Any:
        if path.name == "dog":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with data_error("photos/dog cannot be read: Permission denied"):
        read()


def test_folder_named_like_an_image_is_searched() -> None:
    image_folder(2, path="photos/all.png")
    assert len(read()) == 2


# -- sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip_corrupt", [False, True])
def test_exact_rejects_an_image_of_another_size(skip_corrupt: bool) -> None:
    image_folder(5)
    picture(8, 6).save(FOLDER / "003.png")
    with data_error(f"{FOLDER / '003.png'}: expected an image of 8 x 6 (width x height), found 6 x 8"):
        read(fit="exact", skip_corrupt=skip_corrupt)


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_transforms_resize_as_in_training(fit: Literal["crop", "stretch"], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for index in range(4):
        picture(12, 20, seed=index).save(FOLDER / f"{index}.png", exif=exif)
    dataset = ImagesSpec(path="photos", size=(6, 6), fit=fit)
    spec = tiny_variant((3, 6, 6), (0.0, 1.0), dataset=dataset.model_dump(mode="json"))
    ae = saved_and_loaded(train_quietly(spec))
    with Image.open(FOLDER / "2.png") as image:
        new = ae.transforms()(image)
    assert torch.equal(new[0], dataset.read().inputs[2] / 255)


# -- errors -------------------------------------------------------------------------------------------


def test_missing_folder_error_names_the_working_directory() -> None:
    with data_error("", f"there is no folder nowhere; relative paths start at {Path.cwd()}"):
        read(path="nowhere")


@pytest.mark.parametrize(("path", "words"), [("p" * 5000, "ppp... is no path: File name too long"), ("~nobody-x/a", "~nobody-x/a is no path: ")])  # fmt: skip
def test_path_that_the_system_does_not_take_is_rejected(path: str, words: str) -> None:
    with data_error(words):
        read(path=path)
    with data_error(words):
        aezoo.DatasetSpec.model_validate({"kind": "array", "path": path}).load("train")


@pytest.mark.parametrize("name", ["a.heic", "a.svg", "a.psd", "a.eps"])
def test_image_in_another_format_is_not_left_out(name: str) -> None:
    image_folder(2)
    (FOLDER / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    with data_error(f"photos/{name} cannot be decoded: Pillow finds no image in one of the formats AVIF, "):
        read()
    with pytest.warns(aezoo.DiagnosticWarning, match=f"skipped 1 of 3 images, first photos/{name}"):
        assert len(read(skip_corrupt=True)) == 2


def test_images_larger_than_the_memory_are_rejected() -> None:
    image_folder(2)
    with data_error("GiB, more than the memory; with a smaller `memory_mib`", "the decoded images need "):
        read((10**6, 10**6), memory_mib=10**9)


@pytest.mark.parametrize("files", [[], ["notes.txt", ".hidden.png"]])
def test_folder_without_images_is_rejected(files: list[str]) -> None:
    for name in files:
        (FOLDER / name).touch()
    with data_error("contains no images, such as .png or .jpg"):
        read()


CORRUPTIONS: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) * 2 // 3],
    "empty": lambda data: b"",
    "no image": lambda data: b"<html>404</html>",
    "damaged": lambda data: data[:60] + bytes(20) + data[80:],
}


def corrupt(path: Path, how: str = "truncated") -> None:
    path.write_bytes(CORRUPTIONS[how](path.read_bytes()))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("how", CORRUPTIONS)
def test_corrupt_file_is_named(how: str, workers: int) -> None:
    path = image_folder(images.AHEAD + 20) / "070.png"
    corrupt(path, how)
    with data_error("", f"{path} cannot be decoded: ", "; set `skip_corrupt: true` to skip such files"):
        read(workers=workers)


@pytest.mark.parametrize(("n", "size", "mapped"), [(6, (6, 8), False), (100, (64, 64), True)])
def test_labels_stay_aligned_when_a_file_is_skipped(n: int, size: tuple[int, int], mapped: bool) -> None:
    folder = image_folder(n, labelled=True)
    everything = read(size).inputs
    corrupt(folder / "002" / "it.png")
    for _ in range(2):
        with pytest.warns(
            aezoo.DiagnosticWarning, match=rf"^corrupt-images: skipped 1 of {n} images, first .*002.it\.png$"
        ):
            samples = read(size, skip_corrupt=True, memory_mib=1)
        assert samples.mapped == mapped
        left = [i for i in range(n) if i != 2]
        assert labels_of(samples).tolist() == left
        assert torch.equal(inputs_of(samples), everything[left])


@pytest.mark.parametrize(
    ("skip_corrupt", "words"), [(True, "none of the 3 images in "), (False, "000.png cannot be decoded")]
)
def test_folder_of_only_corrupt_images_is_rejected(skip_corrupt: bool, words: str) -> None:
    image_folder(3)
    for index in range(3):
        corrupt(FOLDER / f"{index:03}.png", "empty")
    with data_error(words):
        read(skip_corrupt=skip_corrupt)


def test_decompression_bomb_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(2)
    picture(30, 40).save(FOLDER / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with data_error("decompression bomb", f"{FOLDER / 'bomb.png'} cannot be decoded: "):
        read()


def test_number_of_threads_does_not_change_the_result() -> None:
    n = images.AHEAD + 20  # more than are decoded ahead
    image_folder(n, 20, 30)
    one = read(workers=1)
    images.in_use.clear()
    assert read(workers=4).sha256() == one.sha256()
    assert len({bytes(image.numpy()) for image in one.inputs}) == n


# -- memory and decoded files -------------------------------------------------------------------------


@pytest.fixture
def many() -> Path:
    """Images that take more than 1 MiB at 64 x 64 pixels."""
    return image_folder(100, labelled=True)


def large(**options: Any) -> ImagesSpec:
    return ImagesSpec.model_validate({"path": "photos", "size": (64, 64), "memory_mib": 1, **options})


@pytest.mark.parametrize("n", [85, 86])
def test_images_are_mapped_above_the_memory_limit(n: int, decoded: Path) -> None:
    # 85 images take 1,044,480 bytes; 1 MiB is 1,048,576.
    image_folder(n)
    samples = large().read()
    assert samples.mapped == decoded.exists() == (n == 86)


def test_mapped_images_equal_those_in_memory(many: Path) -> None:
    for split in SPLITS[:2]:
        mapped, in_memory = (large(memory_mib=size).load(split) for size in (1, 2))
        assert (mapped.mapped, in_memory.mapped) == (True, False)
        assert mapped.sha256() == in_memory.sha256()
        assert torch.equal(labels_of(mapped), labels_of(in_memory))


@pytest.mark.parametrize("memory_mib", [1, 2])
def test_splits_share_the_decoded_images(memory_mib: int, many: Path) -> None:
    dataset = large(memory_mib=memory_mib, test=0.2)
    parts = [dataset.load(split) for split in SPLITS]
    assert len({part.inputs.data_ptr() for part in parts}) == 1
    assert sorted(int(i) for part in parts for i in labels_of(part)) == list(range(100))
    both = parts[0].concat(parts[1])
    assert both.inputs.data_ptr() == parts[0].inputs.data_ptr()
    assert both.mapped == parts[0].mapped == (memory_mib == 1)
    assert labels_of(both).tolist() == labels_of(parts[0]).tolist() + labels_of(parts[1]).tolist()


def test_unused_images_are_freed(many: Path) -> None:
    dataset = large(memory_mib=2)
    reference = weakref.ref(dataset.load("train").inputs)
    assert reference() is None


def test_training_on_mapped_images_equals_training_in_memory(many: Path) -> None:
    spec = tiny_variant((3, 64, 64), (0.0, 1.0), refit=True)
    mapped, in_memory = (train_quietly(spec, large(memory_mib=size)).metrics for size in (1, 2))
    assert mapped["mse.validation"] == in_memory["mse.validation"]


def test_decoded_file_is_reused(many: Path, decoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: ImagesSpec, file: Path) -> None:
        raise AssertionError(f"{file} is decoded again")

    first = large().read().sha256()
    before = {path.name: path.stat().st_mtime_ns for path in decoded.iterdir()}
    monkeypatch.setattr(ImagesSpec, "_decode", decode)
    assert large().read().sha256() == first
    assert {path.name: path.stat().st_mtime_ns for path in decoded.iterdir()} == before


def replace_an_image(folder: Path) -> None:
    path = folder / "007" / "it.png"
    picture(6, 8, seed=1000).save(path)
    os.utime(path, ns=(0, 0))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "replaced": replace_an_image,
    "added": lambda folder: picture(6, 8, seed=1000).save(folder / "007" / "another.png"),
    "removed": lambda folder: (folder / "007" / "it.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("memory_mib", [1, 2])
def test_images_are_decoded_again_when_the_folder_changes(change: str, memory_mib: int, many: Path) -> None:
    before = large(memory_mib=memory_mib).read()
    CHANGES[change](many)
    after = large(memory_mib=memory_mib).read()
    assert after.sha256() != before.sha256()
    images.in_use.clear()
    assert after.sha256() == large(memory_mib=1000).read().sha256()


@pytest.mark.parametrize("option", [{"fit": "stretch"}, {"channels": 1}, {"size": (64, 65)}])
@pytest.mark.parametrize(("n", "mapped"), [(4, False), (300, True)])
def test_images_are_decoded_again_for_other_options(option: dict[str, Any], n: int, mapped: bool) -> None:
    image_folder(n)
    first = large().read()
    assert first.mapped == mapped
    assert large(**option).read().sha256() != first.sha256()


def test_truncated_decoded_file_is_replaced(many: Path, decoded: Path) -> None:
    whole = large().read().sha256()
    images.in_use.clear()
    (file,) = decoded.glob("*.u8")
    file.write_bytes(file.read_bytes()[:-1])
    assert large().read().sha256() == whole


class SmallDisk(io.FileIO):
    """A file on a disk with half a MiB left."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 2**19:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_full_disk_leaves_no_file(many: Path, decoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        data_error(
            f"could not be written: {os.strerror(errno.ENOSPC)}; the decoded images need ",
            end="set XDG_CACHE_HOME to use another folder",
        ),
        monkeypatch.context() as patch,
    ):
        patch.setattr(Path, "open", lambda self, mode: SmallDisk(self, mode))  # pyright: ignore
        large().read()
    assert list(decoded.iterdir()) == []


def test_cache_folder_that_cannot_be_created_is_an_error(many: Path, decoded: Path) -> None:
    decoded.parent.parent.write_bytes(b"")
    with data_error(".u8 could not be written: ", end="set XDG_CACHE_HOME to use another folder"):
        large().read()


@pytest.mark.parametrize("memory_mib", [1, 2])
def test_interrupted_decoding_leaves_no_file(
    memory_mib: int, many: Path, decoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = large(memory_mib=1000).read().sha256()
    images.in_use.clear()
    decode = ImagesSpec._decode  # pyright: ignore[reportPrivateUsage]

    def until_interrupted(self: ImagesSpec, file: Path) -> Any:
        if file.parent.name == "090":
            raise KeyboardInterrupt
        return decode(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(ImagesSpec, "_decode", until_interrupted)
        with pytest.raises(KeyboardInterrupt):
            large(memory_mib=memory_mib).read()
    assert not decoded.exists() or list(decoded.iterdir()) == []
    assert large(memory_mib=memory_mib).read().sha256() == whole


def test_corrupt_image_leaves_no_decoded_file(many: Path, decoded: Path) -> None:
    corrupt(many / "090" / "it.png")
    with data_error("cannot be decoded"):
        large().read()
    assert list(decoded.iterdir()) == []


def test_changed_decoded_file_is_replaced(many: Path, decoded: Path) -> None:
    whole = large().read().sha256()
    for name, change in CACHE_CHANGES.items():
        images.in_use.clear()
        path = next(decoded.glob("*.json" if name.startswith("record") else "*.u8"))
        change(path)
        assert large().read().sha256() == whole, name
    images.in_use.clear()
    (record,) = decoded.glob("*.json")
    record.unlink()
    os.mkfifo(record)
    record.rename(record.with_suffix(".fifo"))
    record.symlink_to(record.with_suffix(".fifo"))
    assert large().read().sha256() == whole


def changed_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)


CACHE_CHANGES: dict[str, Callable[[Path], Any]] = {
    "byte": changed_byte,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "record empty": lambda path: path.write_bytes(b""),
    "record list": lambda path: path.write_bytes(b"[]"),
    "record of another dtype": lambda path: path.write_text(path.read_text().replace("uint8", "float32")),
    "record of an unknown dtype": lambda path: path.write_text(path.read_text().replace("uint8", "object")),
    "record of a corrupt file": lambda path: path.write_text(
        path.read_text().replace('"corrupt":[]', '"corrupt":[100]')
    ),
    "record of text": lambda path: path.write_text(path.read_text().replace('"corrupt":[]', '"corrupt":"a"')),
}


@pytest.mark.parametrize("memory_mib", [1, 2])
def test_image_of_the_same_size_and_time_is_decoded_again(memory_mib: int, many: Path) -> None:
    first, second = many / "007" / "it.png", many / "008" / "it.png"
    for seed in range(9, 60):  # another image whose file has the same size
        picture(6, 8, seed=1000 + seed).save(second)
        if second.stat().st_size == first.stat().st_size:
            break
    assert second.stat().st_size == first.stat().st_size
    before = large(memory_mib=memory_mib).read()
    times = first.stat()
    first.write_bytes(second.read_bytes())
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = large(memory_mib=memory_mib).read()
    assert not torch.equal(before.inputs[7], after.inputs[7])
    assert torch.equal(after.inputs[7], after.inputs[8])


# -- splits -------------------------------------------------------------------------------------------


def numbered_folder(names: list[str], path: str = "photos") -> None:
    """Images whose gray value is the number in their name."""
    for name in names:
        file = Path(path, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), int(file.stem)).save(file)


def split_values(**options: Any) -> dict[str, list[int]]:
    dataset = ImagesSpec.model_validate({"path": "photos", "size": (4, 4), "channels": 1, **options})
    return {
        split: sorted(
            round(float(image[0, 0, 0]) * (255 if image.is_floating_point() else 1))
            for image in inputs_of(dataset.load(split))
        )
        for split in SPLITS
        if dataset.has(split)
    }


def test_other_files_do_not_move_a_file_between_splits() -> None:
    numbered_folder([f"{i}.png" for i in range(100)])
    before = split_values(test=0.2)
    assert sorted(value for part in before.values() for value in part) == list(range(100))
    numbered_folder([f"sub/{i}.png" for i in range(100, 130)])
    after = split_values(test=0.2)
    assert all(set(before[split]) < set(after[split]) for split in SPLITS)
    for index in range(0, 100, 3):
        (FOLDER / f"{index}.png").unlink()
    left = split_values(test=0.2)
    assert all(left[split] == [i for i in after[split] if i >= 100 or i % 3] for split in SPLITS)
    for path in list(FOLDER.rglob("*.png")):
        path.rename(FOLDER / f"{int(path.stem) * 37 % 101:03}-{path.name}")
    assert split_values(test=0.2) == left
    # The size in pixels and the scaling do not matter.
    assert [len(part) for part in split_values(test=0.2, size=(2, 3), fit="stretch").values()] == [
        len(part) for part in left.values()
    ]


def test_an_image_of_more_bits_does_not_move_the_others() -> None:
    numbered_folder([f"{i}.png" for i in range(60)])
    before = split_values(test=0.3)
    Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(FOLDER / "a.png")
    after = split_values(test=0.3)
    for split in SPLITS:
        assert set(before[split]) == set(after[split]) - {round(60000 / 257)}


@pytest.mark.parametrize("n", [4, 30])
def test_equal_files_are_in_the_same_split(n: int) -> None:
    numbered_folder([f"{folder}/{i}.png" for i in range(n) for folder in "abc"])
    parts = split_values(test=0.3)
    assert sum(len(set(part)) for part in parts.values()) == n
    assert sum(map(len, parts.values())) == 3 * n


def test_folder_of_equal_images_has_no_splits() -> None:
    numbered_folder([f"{name}/7.png" for name in "abcdef"])
    with data_error("1 different samples are too few for 2 splits"):
        split_values()


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TEST")])
def test_folders_of_splits_are_the_splits(names: tuple[str, str, str]) -> None:
    train, validation, test = names
    numbered_folder([f"{train}/{'cat' if i < 4 else 'dog'}/{i}.png" for i in range(8)])
    numbered_folder([f"{validation}/dog/{i}.png" for i in (20, 21)] + [f"{test}/cat/30.png"])
    assert split_values() == {"train": list(range(8)), "validation": [20, 21], "test": [30]}
    dataset = ImagesSpec(path="photos", size=(4, 4), channels=1)
    for split in SPLITS:
        samples = dataset.load(split)
        values = [int(image[0, 0, 0]) for image in inputs_of(samples)]
        assert labels_of(samples).tolist() == [int(4 <= value < 30) for value in values]
    assert dataset.validation_note() == "the folder's own split"


@pytest.mark.parametrize(("other", "options"), [("test", {}), ("test", {"test": 0.3}), ("val", {})])
def test_validation_images_come_from_the_training_folder_if_they_have_none(
    other: str, options: dict[str, float]
) -> None:
    numbered_folder([f"train/{i}.png" for i in range(60)] + [f"{other}/{i}.png" for i in range(90, 95)])
    parts = split_values(**options)
    named = "test" if other == "test" else "validation"
    assert parts[named] == [90, 91, 92, 93, 94]
    drawn = [value for split, part in parts.items() if split != named for value in part]
    assert sorted(drawn) == list(range(60))
    assert all(parts.values())


def test_test_share_is_drawn_from_the_training_folder_beside_a_validation_folder() -> None:
    numbered_folder([f"train/{i}.png" for i in range(60)] + ["val/90.png"])
    parts = split_values(test=0.3)
    assert parts["validation"] == [90]
    assert 8 < len(parts["test"]) < 30
    assert sorted(parts["train"] + parts["test"]) == list(range(60))


def test_a_class_may_be_called_like_a_split() -> None:
    numbered_folder([f"{name}/{i + len(name) * 10}.png" for name in ("train", "bus") for i in range(10)])
    samples = ImagesSpec(path="photos", size=(4, 4), channels=1).read()
    assert labels_of(samples).tolist() == [0] * 10 + [1] * 10
    assert set(split_values()) == {"train", "validation"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train/1.png", "test/2.png", "more/3.png"], "folders of splits (test, train), but photos/more/3.png is outside"),
        (["train/1.png", "val/2.png", "3.png"], "folders of splits (train, val), but photos/3.png is outside"),
        (["val/1.png", "test/2.png"], "folders of splits (test, val), but no folder train"),
    ],
)  # fmt: skip
def test_images_beside_folders_of_splits_are_rejected(names: list[str], words: str) -> None:
    numbered_folder(names)
    with data_error(words):
        split_values()


def test_an_image_in_two_folders_of_splits_is_reported() -> None:
    numbered_folder([f"train/{i}.png" for i in range(5)] + ["test/3.png", "val/8.png"])
    with pytest.warns(
        aezoo.DiagnosticWarning, match="shared-images: photos/train/3.png and photos/test/3.png"
    ):
        assert split_values()["test"] == [3]
