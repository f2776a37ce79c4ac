"""The built-in datasets. They enter by the plugins' own door."""

from aezoo.datasets.arrays import ArraySpec, WindowsSpec
from aezoo.datasets.images import ImagesSpec
from aezoo.datasets.named import FashionMnistSpec, MnistSpec, TorchvisionSpec, TorchvisionSplits
from aezoo.datasets.tables import TableSpec
from aezoo.datasets.toys import PhotoPatchesSpec, SwissRollSpec
from aezoo.hookspecs import Register, hookimpl

__all__ = [
    "ArraySpec",
    "FashionMnistSpec",
    "ImagesSpec",
    "MnistSpec",
    "PhotoPatchesSpec",
    "SwissRollSpec",
    "TableSpec",
    "TorchvisionSpec",
    "TorchvisionSplits",
    "WindowsSpec",
]


@hookimpl
def register_datasets(register: Register) -> None:
    """Registers every built-in dataset."""
    for spec in (
        MnistSpec,
        FashionMnistSpec,
        TorchvisionSpec,
        ImagesSpec,
        ArraySpec,
        TableSpec,
        WindowsSpec,
        PhotoPatchesSpec,
        SwissRollSpec,
    ):
        register(spec)
