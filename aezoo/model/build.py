"""Building an autoencoder from a spec: first on the meta device, then with seeded weights.

Every error is found on the meta device, where tensors have shapes but no memory.
"""

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import cast

import torch
from torch import Tensor, nn

from aezoo.errors import NotSupportedError, Problem, SpecError, env_int
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.sequential import MAX_VALUES, LayerBuilder, LayerShape
from aezoo.specs.variant import AutoencoderSpec, require_spec

MAX_PARAMETERS = 1_000_000_000
"""Largest number of parameters, unless `max_parameters` or `AEZOO_MAX_PARAMETERS` says otherwise."""


def build(
    spec: AutoencoderSpec,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    max_parameters: int | None = None,
) -> Autoencoder:
    """Builds an autoencoder with random weights.

    The same spec and seed give the same weights bit for bit on every device. PyTorch's global random state
    is not changed.

    Args:
        spec: an architecture or a whole variant.
        seed: seed of the initial weights.
        device: where the weights are moved after they were drawn on the CPU.
        dtype: floating-point type of the weights.
        max_parameters: largest number of parameters allowed; by default 1e9, or `AEZOO_MAX_PARAMETERS`.

    Returns:
        The autoencoder, in training mode.

    Raises:
        SpecError: layers that do not fit together, too many parameters, or not a spec.
        NotSupportedError: the device is not available, or the dtype is not floating point.
    """
    ae = build_on_meta(spec, max_parameters=max_parameters)
    return materialize(ae, seed=seed, device=device, dtype=dtype)


def build_on_meta(
    spec: AutoencoderSpec,
    shapes: Mapping[str, LayerShape] | None = None,
    max_parameters: int | None = None,
) -> Autoencoder:
    """Builds an autoencoder on the meta device: all names, shapes and dtypes, but no memory.

    Args:
        spec: an architecture or a whole variant.
        shapes: `Autoencoder.shapes` of an earlier build, if known. No layer is run then.
        max_parameters: as for `build`.

    Raises:
        SpecError: as for `build`, or shapes that do not follow from the spec.
    """
    require_spec(spec)
    with torch.device("meta"):
        ae = _assemble(spec, shapes)
    check_parameters(ae.num_parameters, max_parameters)
    return ae


def check_parameters(found: int, max_parameters: int | None) -> None:
    """Checks the number of parameters of a network.

    Raises:
        SpecError: it is larger than `max_parameters`, as for `build`.
    """
    if max_parameters is not None and type(max_parameters) is not int:
        raise SpecError([Problem("", f"max_parameters: expected a whole number, found {max_parameters!r}")])
    limit = env_int("AEZOO_MAX_PARAMETERS", MAX_PARAMETERS) if max_parameters is None else max_parameters
    if found > limit:
        text = f"{found:,} parameters are more than the {limit:,} allowed"
        raise SpecError([Problem("", f"{text}; raise max_parameters or AEZOO_MAX_PARAMETERS")])


def verify_shapes(ae: Autoencoder) -> None:
    """Checks that the layers give the shapes with which an autoencoder was built without running them.

    The network runs on an empty batch, which takes neither time nor memory, whatever its layers give. Where a
    layer does not take an empty batch, the shapes are measured on the meta device.

    Args:
        ae: with weights, in evaluation mode.

    Raises:
        SpecError: a layer gives another shape, or more than `MAX_VALUES` values for one sample.
    """
    problems: list[Problem] = []

    def watch(path: str) -> Callable[..., None]:
        def check(_: nn.Module, __: object, out: object) -> None:
            shape = tuple(out.shape[1:]) if isinstance(out, Tensor) else ()
            if (values := math.prod(shape)) > MAX_VALUES:
                text = f"gives {values:,} values for one sample, more than {MAX_VALUES:,}"
                raise SpecError([Problem(path, text)])
            if path in ae.shapes and shape != ae.shapes[path].output:
                problems.append(Problem(path, f"gives {shape}, {ae.shapes[path].output} is recorded"))

        return check

    weight = next(ae.parameters(), torch.empty(0))
    x = torch.empty((0, *ae.spec.input.shape), dtype=weight.dtype, device=weight.device)
    with ExitStack() as hooks, torch.no_grad():
        for path, module in cast(Iterable[tuple[str, nn.Module]], ae.named_modules()):
            hooks.callback(module.register_forward_hook(watch(path)).remove)
        try:
            ae(x)
        except SpecError:
            raise
        except Exception:  # a layer that needs at least one sample, or one whose input has another shape
            measured = build_on_meta(ae.spec, max_parameters=sys.maxsize).shapes
            problems = [
                Problem(path, f"gives {measured[path].output}, {recorded.output} is recorded")
                for path, recorded in ae.shapes.items()
                if measured[path] != recorded
            ]
    if problems:
        raise SpecError(problems[:1])


def materialize(
    ae: Autoencoder,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Autoencoder:
    """Builds an autoencoder of `build_on_meta` with random weights, without measuring shapes again.

    `ae` is not changed. The other arguments and the result are those of `build`.
    """
    device, dtype = require_device(device), require_float(dtype)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would seed every accelerator as well.
        torch.default_generator.manual_seed(seed)
        built = _assemble(ae.spec, ae.shapes)
    built = built.to(device=device, dtype=dtype)
    built.arrange_weights()
    return built


def require_device(device: object) -> torch.device:
    """The device of a name.

    Raises:
        NotSupportedError: there is no such device, or it is not available.
    """
    if not isinstance(device, str | torch.device):
        raise NotSupportedError(f"expected a device such as 'cpu' or 'cuda', found {device!r}")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    # PyTorch raises whatever a backend raises: an ImportError for some, an AssertionError for CUDA.
    except (RuntimeError, AssertionError, ImportError, TypeError, NotImplementedError) as error:
        # The message lists every backend after the first sentence.
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise NotSupportedError(f"device {device!s} is not available: {reason}") from error
    return found


def require_float(dtype: object) -> torch.dtype:
    """The dtype, if weights can have it.

    Raises:
        NotSupportedError: it is not a floating-point dtype of PyTorch.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        text = f"expected a floating-point dtype such as torch.float32 for the weights, found {dtype!r}"
        raise NotSupportedError(text)
    return dtype


def _assemble(spec: AutoencoderSpec, known: Mapping[str, LayerShape] | None) -> Autoencoder:
    builder = LayerBuilder(known)
    encoder = builder.sequence(spec.encoder, spec.input.shape, "encoder")
    assert encoder.out_shape is not None
    decoder = builder.sequence(spec.decoder, encoder.out_shape, "decoder")
    if unknown := sorted((known or {}).keys() - builder.shapes.keys()):
        raise SpecError([Problem(unknown[0], "shapes are recorded for a layer that the spec does not have")])
    if decoder.out_shape != spec.output.shape:
        what = "target" if spec.target else "input"
        text = f"gives {decoder.out_shape}, which is not the {what}'s shape {spec.output.shape}"
        raise SpecError([Problem(f"decoder.{len(spec.decoder) - 1}", text)])
    return Autoencoder(encoder, decoder, spec, builder.shapes)
