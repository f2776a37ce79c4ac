"""Convolution, pooling and upsampling in one, two or three dimensions.

The input's shape decides: (channels, length) is a series, (channels, height, width) an image, and
(channels, depth, height, width) a volume. Unpooling with switches: Zeiler and Fergus, arXiv:1311.2901,
section 2.1.
"""

from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from aezoo.errors import LayerError
from aezoo.model.layers.linear import WeightedSpec
from aezoo.model.sequential import Aux
from aezoo.model.summary import format_shape
from aezoo.specs.base import ByType, Count, NonNegativeInt, PositiveFloat
from aezoo.specs.components import Bounds, LayerSpec, include_zero

AXES = Field(min_length=1, max_length=3)
Sizes = Annotated[Count | Annotated[tuple[Count, ...], AXES], ByType()]
"""One size for every axis, or a list with one for each axis."""
Paddings = Annotated[NonNegativeInt | Annotated[tuple[NonNegativeInt, ...], AXES], ByType()]
PaddingsOrSame = Annotated[
    NonNegativeInt | Annotated[tuple[NonNegativeInt, ...], AXES] | Literal["same"], ByType()
]

LINEAR_MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}

SwitchName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]


def _nd(name: str, axes: int) -> Any:
    """PyTorch's module for a number of axes, such as `nn.Conv2d` for `Conv` and 2."""
    return getattr(nn, f"{name}{axes}d")


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


def _per_axis(spec: LayerSpec, axes: int, *fields: str) -> list[tuple[int, ...]]:
    return [_each(getattr(spec, field), axes, field) for field in fields]


def _check_kernel(kernel: tuple[int, ...], sizes: tuple[int, ...], padding: tuple[int, ...]) -> None:
    padded = tuple(size + 2 * p for size, p in zip(sizes, padding, strict=True))
    if any(k > size for k, size in zip(kernel, padded, strict=True)):
        text = f"{format_shape(kernel)} is more than the (padded) {format_shape(padded)}"
        raise LayerError("kernel_size", text)


class _ConvSpec(WeightedSpec):
    out_channels: Count
    """Number of output channels."""
    kernel_size: Sizes
    """Size of the kernel, in positions; one number for every axis, or a list."""
    stride: Sizes = 1
    """Step of the kernel, in positions."""
    dilation: Sizes = 1
    """Distance between the elements of the kernel, in positions."""
    groups: Count = 1
    """Number of groups of channels that are convolved separately; divides both numbers of channels."""

    def _check_groups(self, channels: int) -> None:
        if self.out_channels % self.groups:
            text = f"{self.groups} does not divide out_channels {self.out_channels}"
            raise LayerError("groups", text, about_input=False)
        if channels % self.groups:
            raise LayerError("groups", f"{self.groups} does not divide the {channels} channels")


class ConvSpec(_ConvSpec):
    """A convolution: PyTorch's `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`.

    (batch, channels, *sizes) -> (batch, out_channels, *new sizes).
    """

    kind: Literal["conv"] = "conv"
    examples = ({"out_channels": 8, "kernel_size": 3, "stride": 2, "padding": 1, "activation": "relu"},)
    example_shape = (1, 8, 8)
    padding: PaddingsOrSame = 0
    """Positions added at each end. `same` keeps the size and requires stride 1."""
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    """Values of the added positions."""

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        axes = _axes(in_shape, "conv")
        kernel, stride, dilation = _per_axis(self, axes, "kernel_size", "stride", "dilation")
        self._check_groups(in_shape[0])
        extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        padding: Any = "same"
        pad: nn.Module | None = None
        if isinstance(self.padding, str):
            if any(s != 1 for s in stride):
                raise LayerError("padding", "'same' requires stride 1", about_input=False)
            if self.padding_mode == "zeros" and any(e % 2 == 0 for e in extent):
                # PyTorch would pad unevenly as well, but with a warning about the copy that this takes.
                ends = [end for e in reversed(extent) for end in ((e - 1) // 2, e // 2)]
                padding, pad = 0, _nd("ConstantPad", axes)(tuple(ends), 0.0)
        else:
            padding = _each(self.padding, axes, "padding")
            self._check_padding(padding, in_shape[1:])
            _check_kernel(extent, in_shape[1:], padding)
        conv = _nd("Conv", axes)(
            in_shape[0], self.out_channels, kernel, stride, padding, dilation,
            self.groups, self.bias, self.padding_mode,
        )  # fmt: skip
        return self.with_steps("conv", conv, self.out_channels, axes, pad)

    def _check_padding(self, padding: tuple[int, ...], sizes: tuple[int, ...]) -> None:
        # Values beyond the input cannot be reflected or wrapped around.
        excess = {"reflect": 1, "circular": 0}.get(self.padding_mode)
        if excess is not None and any(p + excess > size for p, size in zip(padding, sizes, strict=True)):
            text = f"{format_shape(padding)} is too much {self.padding_mode} padding for the"
            raise LayerError("padding", f"{text} {format_shape(sizes)}")


class ConvTransposeSpec(_ConvSpec):
    """A transposed convolution: the gradient of a convolution with respect to its input.

    (batch, channels, *sizes) -> (batch, out_channels, *new sizes).
    """

    kind: Literal["conv_transpose"] = "conv_transpose"
    examples = ({"out_channels": 8, "kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},)
    example_shape = (1, 8, 8)
    padding: Paddings = 0
    """Positions removed at each end."""
    output_padding: Paddings = 0
    """Positions added at one end, to select one of the sizes that a strided convolution maps to one."""

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        axes = _axes(in_shape, "conv_transpose")
        self._check_groups(in_shape[0])
        kernel, stride, padding, more, dilation = _per_axis(
            self, axes, "kernel_size", "stride", "padding", "output_padding", "dilation"
        )
        if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
            text = f"{format_shape(more)} is not less than stride or dilation"
            raise LayerError("output_padding", text, about_input=False)
        full = [
            (size - 1) * s + d * (k - 1) + m + 1
            for size, s, d, k, m in zip(in_shape[1:], stride, dilation, kernel, more, strict=True)
        ]
        if any(2 * p >= f for p, f in zip(padding, full, strict=True)):
            text = f"{format_shape(padding)} leaves no output for the {format_shape(in_shape[1:])}"
            raise LayerError("padding", text)
        conv = _nd("ConvTranspose", axes)(
            in_shape[0], self.out_channels, kernel, stride, padding, more, self.groups, self.bias, dilation
        )
        return self.with_steps("conv_transpose", conv, self.out_channels, axes)


class _PoolSpec(LayerSpec):
    kernel_size: Sizes
    """Size of the window, in positions; one number for every axis, or a list."""
    stride: Sizes | None = None
    """The kernel's size by default, so that windows do not overlap."""
    padding: Paddings = 0
    """Positions added at each end, at most half the window."""
    ceil_mode: bool = False
    """Whether to use windows that extend beyond the end."""

    def _pool(self, name: str, in_shape: tuple[int, ...], **options: bool) -> Any:
        axes = _axes(in_shape, str(self.kind_name))
        kernel, padding = _per_axis(self, axes, "kernel_size", "padding")
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            text = f"{format_shape(padding)} is more than half the kernel {format_shape(kernel)}"
            raise LayerError("padding", text, about_input=False)
        _check_kernel(kernel, in_shape[1:], padding)
        stride = kernel if self.stride is None else _each(self.stride, axes, "stride")
        return _nd(name, axes)(kernel, stride, padding, ceil_mode=self.ceil_mode, **options)


class SwitchingMaxPool(nn.Module):
    """Max pooling that emits its switches: where in each window the largest value was.

    Emits `<name>.indices`, (batch, channels, *out), and `<name>.sizes`, an empty tensor (0, *sizes).
    """

    def __init__(self, pool: nn.Module, name: str) -> None:
        super().__init__()
        self.pool = pool
        self.emits = (f"{name}.indices", f"{name}.sizes")

    @override
    def forward(
        self, h: Float[Tensor, "batch channels *sizes"], aux: Aux
    ) -> Float[Tensor, "batch channels *out"]:
        indices, sizes = self.emits
        out, aux[indices] = self.pool(h)
        # Has no values: its shape tells the unpooling which sizes the switches refer to.
        aux[sizes] = h.new_empty((0, *h.shape[2:]))
        return out


class MaxPoolSpec(_PoolSpec):
    """The largest value of each window: (batch, channels, *sizes) -> (batch, channels, *smaller sizes)."""

    kind: Literal["max_pool"] = "max_pool"
    examples = ({"kernel_size": 2},)
    example_shape = (1, 8, 8)
    switches: SwitchName | None = None
    """A name by which a `max_unpool` in the decoder finds where the largest values were."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return given

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if self.switches is None:
            return self._pool("MaxPool", in_shape)
        pool = self._pool("MaxPool", in_shape, return_indices=True)
        if any(s < k for s, k in zip(pool.stride, pool.kernel_size, strict=True)):
            raise LayerError("switches", "windows that overlap cannot be unpooled", about_input=False)
        return SwitchingMaxPool(pool, self.switches)


class SwitchedMaxUnpool(nn.Module):
    """Puts each value where a max pooling of the encoder found it, and zeros elsewhere.

    Needs what the pooling emits: `<name>.indices` and `<name>.sizes`.
    """

    def __init__(self, unpool: nn.Module, sizes: tuple[int, ...] | None, name: str) -> None:
        super().__init__()
        self.unpool = unpool
        self.sizes = sizes
        self.needs = (f"{name}.indices", f"{name}.sizes")

    @override
    def forward(
        self, h: Float[Tensor, "batch channels *sizes"], aux: Aux
    ) -> Float[Tensor, "batch channels *out"]:
        indices, sizes = self.needs
        out = self.unpool(h, aux[indices], output_size=self.sizes)
        given, pooled = tuple(out.shape[2:]), tuple(aux[sizes].shape[1:])
        if given != pooled:
            text = f"it gives {format_shape(given)}, but {format_shape(pooled)} was pooled; set `size`"
            raise ValueError(text)
        return out


class MaxUnpoolSpec(LayerSpec):
    """Undoes a max pooling of the encoder by its switches (arXiv:1311.2901, section 2.1).

    (batch, channels, *sizes) -> (batch, channels, *larger sizes). Decoding then requires what the encoder
    emitted: `ae.decode(out.latents, out.aux)`.
    """

    kind: Literal["max_unpool"] = "max_unpool"
    examples = ({"switches": "pool1", "kernel_size": 2},)
    example_before = ({"kind": "max_pool", "kernel_size": 2, "switches": "pool1"},)
    example_shape = (1, 8, 8)
    switches: SwitchName
    """The name that the `max_pool` gives its switches."""
    kernel_size: Sizes
    """That of the pooling."""
    stride: Sizes | None = None
    """That of the pooling; the kernel's size by default."""
    padding: Paddings = 0
    """That of the pooling."""
    size: Sizes | None = None
    """Sizes to give; required if the pooling left out positions at the end."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return include_zero(given)

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        axes = _axes(in_shape, "max_unpool")
        kernel, padding = _per_axis(self, axes, "kernel_size", "padding")
        stride = kernel if self.stride is None else _each(self.stride, axes, "stride")
        unpool = _nd("MaxUnpool", axes)(kernel, stride, padding)
        sizes = None if self.size is None else _each(self.size, axes, "size")
        return SwitchedMaxUnpool(unpool, sizes, self.switches)


class AvgPoolSpec(_PoolSpec):
    """The mean of each window, with zeros as padding.

    (batch, channels, *sizes) -> (batch, channels, *smaller sizes).
    """

    kind: Literal["avg_pool"] = "avg_pool"
    examples = ({"kernel_size": 2},)
    example_shape = (1, 8, 8)

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return include_zero(given)

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return self._pool("AvgPool", in_shape)


class SpacedZeros(nn.Module):
    """Enlarges every axis by a whole factor: each value is followed by zeros."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    @override
    def forward(self, h: Float[Tensor, "batch channels *sizes"]) -> Float[Tensor, "batch channels *out"]:
        out = h.new_zeros((*h.shape[:2], *(size * self.factor for size in h.shape[2:])))
        out[(..., *(slice(None, None, self.factor) for _ in h.shape[2:]))] = h
        return out


class UpsampleSpec(LayerSpec):
    """Enlarges every axis by a factor, by interpolation or by unpooling without switches.

    (batch, channels, *sizes) -> (batch, channels, *sizes times scale_factor).
    """

    kind: Literal["upsample"] = "upsample"
    examples = ({"scale_factor": 2.0, "mode": "linear"},)
    example_shape = (1, 4, 4)
    scale_factor: PositiveFloat = 2.0
    """Factor of the size of every axis; a whole number in mode `zeros`."""
    mode: Literal["nearest", "zeros", "linear"] = "nearest"
    """`nearest` repeats each value over its window, `zeros` puts it into the window's first corner and zeros
    elsewhere, `linear` interpolates along every axis (bilinear for images)."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return include_zero(given) if self.mode == "zeros" else given

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        axes = _axes(in_shape, "upsample")
        factor = self.scale_factor
        if any(size * factor < 1 for size in in_shape[1:]):
            raise LayerError("scale_factor", f"{factor} leaves nothing of the {format_shape(in_shape[1:])}")
        if self.mode == "zeros":
            if factor != int(factor):
                text = f"{factor} is not a whole number, which mode `zeros` requires"
                raise LayerError("scale_factor", text, about_input=False)
            return SpacedZeros(int(factor))
        if self.mode == "nearest":
            return nn.Upsample(scale_factor=factor, mode="nearest")
        return nn.Upsample(scale_factor=factor, mode=LINEAR_MODE[axes], align_corners=False)
