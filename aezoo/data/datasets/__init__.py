"""The built-in datasets. They enter by the plugins' own door."""

from aezoo.data.datasets.arrays import ArraySpec, WindowsSpec
from aezoo.data.datasets.images import ImagesSpec
from aezoo.data.datasets.synthetic import PhotoPatchesSpec, SwissRollSpec
from aezoo.data.datasets.tables import TableSpec
from aezoo.data.datasets.torchvision import FashionMnistSpec, MnistSpec, TorchvisionSpec, TorchvisionSplits
from aezoo.plugins.hookspecs import Register, hookimpl

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
