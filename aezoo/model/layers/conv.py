"""Convolutions, pooling and upsampling in one, two or three dimensions, as the input has them.

A sample of shape (channels, length) is a series, (channels, height, width) an image, and
(channels, depth, height, width) a volume.
"""

from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from aezoo.errors import LayerError
from aezoo.model.layers.linear import WeightedSpec
from aezoo.model.sequential import Aux
from aezoo.specs.base import ByType, Count, NonNegativeInt, PositiveFloat
from aezoo.specs.components import Bounds, LayerSpec, include_zero

AXES = Field(min_length=1, max_length=3)
Sizes = Annotated[Count | Annotated[tuple[Count, ...], AXES], ByType()]
"""One size for every axis, or a list with one for each axis."""
Paddings = Annotated[NonNegativeInt | Annotated[tuple[NonNegativeInt, ...], AXES], ByType()]
PaddingsOrSame = Annotated[
    NonNegativeInt | Annotated[tuple[NonNegativeInt, ...], AXES] | Literal["same"], ByType()
]

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
MAX_UNPOOL: dict[int, Any] = {1: nn.MaxUnpool1d, 2: nn.MaxUnpool2d, 3: nn.MaxUnpool3d}
AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
PAD: dict[int, Any] = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}
LINEAR_MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _axes(in_shape: tuple[int, ...], kind: str) -> int:
    if len(in_shape) not in (2, 3, 4):
        raise LayerError("kind", f"{kind} takes channels and 1 to 3 axes, not the {in_shape}")
    return len(in_shape) - 1


def _each(value: int | tuple[int, ...], axes: int, field: str) -> tuple[int, ...]:
    """A size for every axis."""
    sizes = (value,) * axes if isinstance(value, int) else value
    if len(sizes) != axes:
        raise LayerError(field, f"{len(sizes)} sizes do not fit the {axes} axes")
    return sizes


def _fits(kernel: tuple[int, ...], padded: tuple[int, ...]) -> None:
    if any(k > size for k, size in zip(kernel, padded, strict=True)):
        raise LayerError("kernel_size", f"{_x(kernel)} is more than the (padded) {_x(padded)}")


def _x(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


class _ConvSpec(WeightedSpec):
    out_channels: Count
    kernel_size: Sizes
    stride: Sizes = 1
    dilation: Sizes = 1
    groups: Count = 1

    def _check_groups(self, channels: int) -> None:
        if self.out_channels % self.groups:
            raise LayerError(
                "groups", f"{self.groups} does not divide out_channels {self.out_channels}, nor need the"
            )
        if channels % self.groups:
            raise LayerError("groups", f"{self.groups} does not divide the {channels} channels")

    def _norm(self, axes: int) -> nn.Module | None:
        if self.norm == "batch_norm":
            return BATCH_NORM[axes](self.out_channels)
        # One group: over channels and positions of a sample, with an affine map for each channel.
        return nn.GroupNorm(1, self.out_channels) if self.norm == "layer_norm" else None


class ConvSpec(_ConvSpec):
    """A convolution, PyTorch's `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`."""

    kind: Literal["conv"] = "conv"
    padding: PaddingsOrSame = 0
    """Positions added at each end; `same` keeps the size (stride 1 only)."""
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, channels, *sizes) -> (batch, out_channels, *new sizes)."""
        axes = _axes(in_shape, "conv")
        kernel = _each(self.kernel_size, axes, "kernel_size")
        stride = _each(self.stride, axes, "stride")
        dilation = _each(self.dilation, axes, "dilation")
        self._check_groups(in_shape[0])
        reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        padding: Any = "same"
        pad: nn.Module | None = None
        if isinstance(self.padding, str):
            if any(s != 1 for s in stride):
                raise LayerError("padding", "'same' goes with stride 1, whatever the size")
            if self.padding_mode == "zeros" and any(r % 2 == 0 for r in reach):
                # PyTorch pads unevenly, too, but warns of the copy that this takes.
                ends = [end for r in reversed(reach) for end in ((r - 1) // 2, r // 2)]
                padding, pad = 0, PAD[axes](tuple(ends), 0.0)
        else:
            padding = _each(self.padding, axes, "padding")
            self._check_padding(padding, in_shape[1:])
            _fits(reach, tuple(s + 2 * p for s, p in zip(in_shape[1:], padding, strict=True)))
        conv = CONV[axes](
            in_shape[0], self.out_channels, kernel, stride, padding, dilation,
            self.groups, self.bias, self.padding_mode,
        )  # fmt: skip
        return self.followed("conv", conv, self._norm(axes), pad)

    def _check_padding(self, padding: tuple[int, ...], sizes: tuple[int, ...]) -> None:
        """What is not there cannot be mirrored or come round again."""
        most = {"reflect": -1, "circular": 0}.get(self.padding_mode)
        if most is not None and any(p > size + most for p, size in zip(padding, sizes, strict=True)):
            raise LayerError(
                "padding", f"{_x(padding)} is too much for {self.padding_mode} of the {_x(sizes)}"
            )


class ConvTransposeSpec(_ConvSpec):
    """A transposed convolution, the gradient of a convolution with respect to its input."""

    kind: Literal["conv_transpose"] = "conv_transpose"
    padding: Paddings = 0
    """Positions taken off at each end."""
    output_padding: Paddings = 0
    """Positions added at one end, to choose among the sizes that a strided convolution maps alike."""

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, channels, *sizes) -> (batch, out_channels, *new sizes)."""
        axes = _axes(in_shape, "conv_transpose")
        self._check_groups(in_shape[0])
        kernel = _each(self.kernel_size, axes, "kernel_size")
        stride = _each(self.stride, axes, "stride")
        padding = _each(self.padding, axes, "padding")
        more = _each(self.output_padding, axes, "output_padding")
        dilation = _each(self.dilation, axes, "dilation")
        if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
            raise LayerError(
                "output_padding", f"{_x(more)} is not less than stride or dilation, whatever the size"
            )
        full = [
            (size - 1) * s + d * (k - 1) + m + 1
            for size, s, d, k, m in zip(in_shape[1:], stride, dilation, kernel, more, strict=True)
        ]
        if any(2 * p >= f for p, f in zip(padding, full, strict=True)):
            sizes = _x(in_shape[1:])
            raise LayerError("padding", f"{_x(padding)} leaves nothing of what comes of the {sizes}")
        conv = CONV_TRANSPOSE[axes](
            in_shape[0], self.out_channels, kernel, stride, padding, more, self.groups, self.bias, dilation
        )
        return self.followed("conv_transpose", conv, self._norm(axes))


class _PoolSpec(LayerSpec):
    kernel_size: Sizes
    stride: Sizes | None = None
    """By default the kernel's size, so that windows do not overlap."""
    padding: Paddings = 0
    ceil_mode: bool = False
    """Whether a window that reaches over the end counts."""

    def _arguments(self, in_shape: tuple[int, ...], kind: str) -> tuple[int, dict[str, Any]]:
        axes = _axes(in_shape, kind)
        kernel = _each(self.kernel_size, axes, "kernel_size")
        padding = _each(self.padding, axes, "padding")
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise LayerError(
                "padding", f"{_x(padding)} is more than half the kernel {_x(kernel)}, whatever the size"
            )
        _fits(kernel, tuple(s + 2 * p for s, p in zip(in_shape[1:], padding, strict=True)))
        stride = kernel if self.stride is None else _each(self.stride, axes, "stride")
        return axes, {
            "kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": self.ceil_mode,
        }  # fmt: skip


class SwitchingMaxPool(nn.Module):
    """Max pooling that emits where in each window the largest value was."""

    def __init__(self, pool: nn.Module, name: str) -> None:
        super().__init__()
        self.pool = pool
        self.emits = (f"{name}.indices", f"{name}.sizes")

    def forward(
        self, h: Float[Tensor, "batch channels *sizes"], aux: Aux
    ) -> Float[Tensor, "batch channels *out"]:
        """(batch, channels, *sizes) -> (batch, channels, *smaller sizes)."""
        out, aux[self.emits[0]] = self.pool(h)
        # Holds nothing; its shape says into what the switches point.
        aux[self.emits[1]] = h.new_empty((0, *h.shape[2:]))
        return out


class MaxPoolSpec(_PoolSpec):
    """The largest value of each window."""

    kind: Literal["max_pool"] = "max_pool"
    switches: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")] | None = None
    """A name under which a `max_unpool` in the decoder finds where the largest values were."""

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return given

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, channels, *sizes) -> (batch, channels, *smaller sizes)."""
        axes, arguments = self._arguments(in_shape, "max_pool")
        if self.switches is None:
            return MAX_POOL[axes](**arguments)
        if any(s < k for s, k in zip(arguments["stride"], arguments["kernel_size"], strict=True)):
            raise LayerError("switches", "windows that overlap cannot be undone, whatever the size")
        return SwitchingMaxPool(MAX_POOL[axes](**arguments, return_indices=True), self.switches)


class SwitchedMaxUnpool(nn.Module):
    """Puts every value where a max pooling of the encoder found it, and zeros elsewhere."""

    def __init__(self, unpool: nn.Module, sizes: tuple[int, ...] | None, name: str) -> None:
        super().__init__()
        self.unpool = unpool
        self.sizes = sizes
        self.needs = (f"{name}.indices", f"{name}.sizes")

    def forward(
        self, h: Float[Tensor, "batch channels *sizes"], aux: Aux
    ) -> Float[Tensor, "batch channels *out"]:
        """(batch, channels, *sizes) -> (batch, channels, *larger sizes)."""
        out = self.unpool(h, aux[self.needs[0]], output_size=self.sizes)
        given, pooled = tuple(out.shape[2:]), tuple(aux[self.needs[1]].shape[1:])
        if given != pooled:
            raise ValueError(f"it gives {_x(given)} where {_x(pooled)} was pooled; set `size`")
        return out


class MaxUnpoolSpec(LayerSpec):
    """Undoes a max pooling of the encoder by its switches (Zeiler and Fergus, arXiv:1311.2901, 2.1).

    Decoding then needs what the encoder emitted: `ae.decode(out.latents, out.aux)`.
    """

    kind: Literal["max_unpool"] = "max_unpool"
    switches: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
    """The name that the `max_pool` gave them."""
    kernel_size: Sizes
    """The pooling's."""
    stride: Sizes | None = None
    """The pooling's; by default the kernel's size."""
    padding: Paddings = 0
    """The pooling's."""
    size: Sizes | None = None
    """Sizes to give back, where the pooling left a rest out."""

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return include_zero(given)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, channels, *sizes) -> (batch, channels, *larger sizes)."""
        axes = _axes(in_shape, "max_unpool")
        kernel = _each(self.kernel_size, axes, "kernel_size")
        stride = kernel if self.stride is None else _each(self.stride, axes, "stride")
        unpool = MAX_UNPOOL[axes](kernel, stride, _each(self.padding, axes, "padding"))
        sizes = None if self.size is None else _each(self.size, axes, "size")
        return SwitchedMaxUnpool(unpool, sizes, self.switches)


class AvgPoolSpec(_PoolSpec):
    """The mean of each window; padding counts as zeros."""

    kind: Literal["avg_pool"] = "avg_pool"

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return include_zero(given)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, channels, *sizes) -> (batch, channels, *smaller sizes)."""
        axes, arguments = self._arguments(in_shape, "avg_pool")
        return AVG_POOL[axes](**arguments)


class SpacedZeros(nn.Module):
    """Puts each value into the first corner of a window of zeros."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, h: Float[Tensor, "batch channels *sizes"]) -> Float[Tensor, "batch channels *out"]:
        """(batch, channels, *sizes) -> (batch, channels, *sizes times the factor)."""
        out = h.new_zeros((*h.shape[:2], *(size * self.factor for size in h.shape[2:])))
        out[(..., *(slice(None, None, self.factor) for _ in h.shape[2:]))] = h
        return out


class UpsampleSpec(LayerSpec):
    """Enlarges every axis by a factor: unpooling without switches, or interpolation."""

    kind: Literal["upsample"] = "upsample"
    scale_factor: PositiveFloat = 2.0
    mode: Literal["nearest", "zeros", "linear"] = "nearest"
    """`nearest` repeats each value over its window, `zeros` puts it into the window's first corner and zeros
    elsewhere, `linear` interpolates along every axis: bilinear on images."""

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return include_zero(given) if self.mode == "zeros" else given

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, channels, *sizes) -> (batch, channels, *sizes times scale_factor)."""
        axes = _axes(in_shape, "upsample")
        if any(size * self.scale_factor < 1 for size in in_shape[1:]):
            raise LayerError("scale_factor", f"{self.scale_factor} leaves nothing of the {_x(in_shape[1:])}")
        if self.mode == "zeros":
            if self.scale_factor != int(self.scale_factor):
                raise LayerError(
                    "scale_factor",
                    f"{self.scale_factor} is not whole, which zeros between need, whatever the size",
                )
            return SpacedZeros(int(self.scale_factor))
        if self.mode == "nearest":
            return nn.Upsample(scale_factor=self.scale_factor, mode="nearest")
        return nn.Upsample(scale_factor=self.scale_factor, mode=LINEAR_MODE[axes], align_corners=False)
