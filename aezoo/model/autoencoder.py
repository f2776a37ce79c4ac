"""The autoencoder: encode, decode, forward; and the records of a trained one."""

import hashlib
import importlib
import json
import math
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from aezoo.data.transforms import Scaler, Transforms
from aezoo.errors import AezooError, CheckpointError, DataError, NotSupportedError
from aezoo.model.output import Output, SparseOutput
from aezoo.model.sequential import Aux, Exact, LayerSequence, LayerShape, Mean
from aezoo.model.sparse import SparseCode, SparsePattern
from aezoo.model.sparse_path import (
    SparseDecoder,
    SparseEncoder,
    arrange_weights,
    find_decoder,
    find_encoder,
    used_entries,
)
from aezoo.model.summary import LayerRow, as_html, as_text, describe_layer, format_shape
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.variant import AutoencoderSpec
from aezoo.text import type_name

DATA_STATISTICS = ("target_mean", "input_shift", "input_scale")
"""Buffers of an autoencoder that are computed from the training data."""


@dataclass(frozen=True)
class Source:
    """Where the weights of an autoencoder come from.

    Attributes:
        kind: `built` (random weights), `trained` (in this process), `folder`, `zoo` (by name) or `hub`.
        path: the folder, if any; for the Hub, the folder in its cache.
        sha256: verified hash of the weights file, if any.
        index_verified: whether the index of a zoo lists this hash.
        repository: `owner/name` on the Hub, if any.
        commit: commit of the repository, 40 hexadecimal digits.
        hashes: sha256 of every file that was read, by file name.
    """

    kind: str
    path: str | None = None
    sha256: str | None = None
    index_verified: bool = False
    repository: str | None = None
    commit: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)


class Autoencoder(nn.Module):
    """An encoder and a decoder. Created by `aezoo.build`, `aezoo.train` and `aezoo.load`.

    Attributes:
        encoder: (batch, *input shape) -> (batch, *latent shape).
        decoder: (batch, *latent shape) -> (batch, *target shape).
        spec: the spec that it was built from.
        shapes: input and output shape of every layer, by path.
        target_mean: mean of the training targets, (*target shape); None before training.
        input_shift: subtracted from the inputs in training, (*input shape); None if they were not scaled.
        input_scale: the shifted inputs were divided by it, (*input shape); None if they were not scaled.
        columns: column names of a table, in the order of the input's values; empty for other data.
        metrics: measured numbers as in `metrics.json`; empty if nothing was measured. They belong to the
            weights at the time of the assignment: assign them again after the weights have changed.
        history: one record per epoch of the training.
        training_record: circumstances of the training, as in `training.json`; belongs to the weights at the
            time of the assignment.
        source: where the weights come from.
        examples: inputs of the validation split, (n, *input shape), of which `save` draws a preview; None if
            the autoencoder was not trained in this process.
        example_targets: the targets of `examples`, (n, *target shape), or None.
        clean_examples: `examples` without the recipe's noises; None if it has none.
    """

    target_mean: Tensor | None
    input_shift: Tensor | None
    input_scale: Tensor | None

    def __init__(
        self,
        encoder: LayerSequence,
        decoder: LayerSequence,
        spec: AutoencoderSpec,
        shapes: dict[str, LayerShape],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.spec = spec
        self.shapes = shapes
        for name in DATA_STATISTICS:
            self.register_buffer(name, None)
        self.columns: tuple[str, ...] = ()
        self._described: dict[str, str | Callable[[], str | None] | None] = {}
        self._loaded: tuple[object, ...] = ()
        self.metrics = {}
        self.training_record = {}
        self.history = []
        self.source = Source("built")
        self.examples: Tensor | None = None
        self.example_targets: Tensor | None = None
        self.clean_examples: Tensor | None = None

    def encode(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch *latents"]:
        """Encodes a batch.

        Args:
            x: (batch, *input shape), as `transforms()` returns it.

        Returns:
            The latents, (batch, *latent shape).

        Raises:
            DataError: not a tensor, or another shape, dtype or device.
        """
        self._check_input(x)
        try:
            # As in `forward`, which needs both sides.
            if self._sparse_decoder(x) is not None and (encode := self._sparse_encoder(x)) is not None:
                return encode(x, {}).dense()
            return self.encoder(x)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            self._explain(error, x, self.encoder)
            raise

    def decode(
        self, latents: Float[Tensor, "batch *latents"], aux: Aux | None = None
    ) -> Float[Tensor, "batch *target"]:
        """Decodes latents.

        Args:
            latents: (batch, *latent shape).
            aux: `forward(x).aux`; required if the decoder needs what the encoder emits. Not changed.

        Returns:
            The reconstruction, (batch, *target shape).

        Raises:
            DataError: not a tensor, another shape, dtype or device, or a name missing from `aux`.
        """
        _require_tensor(latents, "latents", "ae.encode(x) returns them")
        aux = dict(aux or {})
        if missing := ", ".join(repr(name) for name in self.decoder.needs if name not in aux):
            raise DataError(
                f"this decoder needs {missing} from the encoder; call decode(out.latents, out.aux) with "
                "out = ae(x)"
            )
        if tuple(latents.shape[1:]) != self.latent_shape:
            expected = format_shape(self.latent_shape)
            batch = "; add the batch axis: latents[None]" if tuple(latents.shape) == self.latent_shape else ""
            raise DataError(
                f"expected latents of shape (batch, {expected}), found {tuple(latents.shape)}{batch}"
            )
        try:
            decode = self._sparse_decoder(latents)
            if decode is not None and (code := decode.code_of(latents)) is not None:
                return decode(code, aux)
            return self.decoder(latents, aux)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            self._explain(error, latents, self.decoder)
            raise

    @override
    def forward(self, x: Float[Tensor, "batch *input"]) -> Output:
        """Encodes and decodes a batch.

        Args:
            x: (batch, *input shape), as `transforms()` returns it.

        Raises:
            DataError: not a tensor, or another shape, dtype or device.
        """
        self._check_input(x)
        aux: Aux = {}
        try:
            decode = self._sparse_decoder(x)
            encode = None if decode is None else self._sparse_encoder(x)
            if encode is not None and decode is not None:
                code = encode(x, aux)
                return SparseOutput.of(decode(code, aux), code, aux)
            latents = self.encoder(x, aux)
            used = None if decode is None else used_entries(self.encoder, aux)
            if decode is not None and used is not None:
                code = SparseCode(latents[used], SparsePattern.of_mask(used))
                return SparseOutput.of(decode(code, aux), code, aux, latents)
            return Output(self.decoder(latents, aux), latents, aux)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            self._explain(error, x, self.encoder)
            raise

    def decode_sparse(self, code: SparseCode, aux: Aux | None = None) -> Float[Tensor, "batch *target"]:
        """Decodes latents that are given as their kept entries, such as `forward(x).code` or a part of it.

        Args:
            code: of latents (batch, *latent shape).
            aux: as for `decode`.

        Returns:
            The reconstruction, (batch, *target shape).

        Raises:
            DataError: as for `decode`.
        """
        self._check_code(code)
        decode = self._sparse_decoder(code.values.new_empty(len(code.pattern.offsets) - 1, 0))
        missing = [name for name in self.decoder.needs if name not in (aux or {})]
        if decode is None or missing:
            return self.decode(code.dense(), aux)
        return decode(code, dict(aux or {}))

    def _check_code(self, code: object) -> None:
        if not isinstance(code, SparseCode):
            raise DataError(f"expected an aezoo.SparseCode, such as ae(x).code, found {type_name(code)}")
        values, (_, columns, size) = code.values, code.pattern
        if self.latent_shape != (size,):
            expected = format_shape(self.latent_shape)
            raise DataError(f"expected a code of latents ({expected}), found a pattern of {size:,} columns")
        if values.shape != columns.shape:
            raise DataError(
                f"expected {len(columns):,} values, one for each column, found {tuple(values.shape)}"
            )
        if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < size:
            raise DataError(f"expected columns from 0 to {size - 1:,}, found {int(columns.max()):,}")
        weight = next(self.decoder.parameters(), values)
        for what, found, wanted in (
            ("device", values.device, weight.device), ("dtype", values.dtype, weight.dtype)
        ):  # fmt: skip
            if found != wanted:
                raise DataError(
                    f"the code's {what} is {found}, the weights' is {wanted}; convert one with .to(...)"
                )

    def arrange_weights(self) -> None:
        """Stores the decoder's weight column by column if sparse kernels read it; no value changes."""
        if self._may_be_sparse():
            arrange_weights(self.encoder, self.decoder)

    def _sparse_encoder(self, x: Tensor) -> SparseEncoder | None:
        return find_encoder(self.encoder, x) if self._may_be_sparse() else None

    def _sparse_decoder(self, x: Tensor) -> SparseDecoder | None:
        return find_decoder(self.encoder, self.decoder, x) if self._may_be_sparse() else None

    def _may_be_sparse(self) -> bool:
        # First, because a compiler cannot follow the rest. Without a recipe there are no published bits.
        if torch.compiler.is_compiling():
            return False
        recipe: RecipeSpec | None = getattr(self.spec, "recipe", None)
        return recipe is None or recipe.has_sparse_kernels

    def _check_input(self, x: Tensor) -> None:
        _require_tensor(x, "input", "ae.transforms() converts images, arrays, tables and lists")
        if tuple(x.shape[1:]) != self.spec.input.shape:
            expected = format_shape(self.spec.input.shape)
            hint = "ae.transforms() converts images and arrays"
            if tuple(x.shape) == self.spec.input.shape:
                hint = "add the batch axis: x[None]"
            raise DataError(f"expected input of shape (batch, {expected}), found {tuple(x.shape)}; {hint}")

    @staticmethod
    def _explain(error: Exception, x: Tensor, part: nn.Module) -> None:
        """Raises a `DataError` if a part failed for the dtype, device, layout or size of its input."""
        weight = next(part.parameters(), x)
        if isinstance(error, AezooError | torch.OutOfMemoryError):
            return
        if x.layout != torch.strided:
            reason = f"expected a dense tensor, found {x.layout}; pass x.to_dense()"
        elif x.device != weight.device:
            reason = f"the input is on {x.device}, the weights are on {weight.device}; move one with .to(...)"
        elif not x.is_floating_point():
            reason = f"expected a floating-point tensor, found {x.dtype}; ae.transforms() scales bytes"
        elif x.dtype != weight.dtype:
            reason = f"the input is {x.dtype}, the weights are {weight.dtype}; convert one with .to(...)"
        elif len(x) == 0:
            reason = "expected at least one sample, found an empty batch"
        elif len(x) == 1 and "more than 1 value per channel" in str(error):
            reason = (
                "batch normalization needs at least two samples in training mode, found one; call ae.eval(), "
                "or choose a batch size that leaves no batch of one"
            )
        else:
            return
        raise DataError(reason) from error

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, *, seed: int | None = None
    ) -> Float[Tensor, "n *target"]:
        """Draws latents from the prior and decodes them.

        Args:
            n: number of samples, at least 1.
            generator: source of the random numbers; PyTorch's global one by default.
            seed: the same seed gives the same samples; instead of a generator.

        Returns:
            (n, *target shape).

        Raises:
            ValueError: `n` or `seed` is not a whole number in its range, or both a generator and a seed are
                given.
            NotSupportedError: the encoder's last layer has no `sample_prior(n, generator)`, as in every
                autoencoder that is not variational.
        """
        draw: Callable[[int, torch.Generator | None], Tensor] | None
        draw = getattr(self._last_layer, "sample_prior", None)
        if draw is None:
            raise NotSupportedError("this autoencoder has no prior to sample from; a variational one has")
        _require_int(n, "n", 1)
        if seed is not None:
            _require_int(seed, "seed", 0)
            if generator is not None:
                raise ValueError("sample takes a generator or a seed, not both")
            generator = torch.Generator().manual_seed(seed)
        latents = draw(n, generator)
        like = next(self.parameters(), latents)
        return self.decode(latents.to(like.device, like.dtype))

    @torch.no_grad()
    def score_samples(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, " batch"]:
        """Scores how usual each sample is: minus its mean squared reconstruction error.

        As in scikit-learn, a higher score is more usual. The autoencoder runs in its current mode.

        Args:
            x: (batch, *input shape).

        Returns:
            (batch,), at most 0.

        Raises:
            NotSupportedError: the target's shape is not the input's.
        """
        if self.spec.output.shape != self.spec.input.shape:
            raise NotSupportedError("score_samples compares with the input, which is not this target's shape")
        return -(self(x).x_hat - x).flatten(1).square().mean(1)

    def sparsity(self) -> Exact | Mean | None:
        """How many latents are non-zero, as the encoder's last layer declares; None if it does not."""
        declare: Callable[[], Exact | Mean | None] | None = getattr(self._last_layer, "sparsity", None)
        return None if declare is None else declare()

    @property
    def _last_layer(self) -> nn.Module:
        return self.encoder[len(self.encoder) - 1]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one sample's latents."""
        assert self.encoder.out_shape is not None
        return self.encoder.out_shape

    @property
    def num_latents(self) -> int:
        """Number of latents of one sample."""
        return math.prod(self.latent_shape)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the encoder and the decoder."""
        return sum(p.numel() for p in self.parameters())

    # -- data -------------------------------------------------------------------------------------

    def transforms(self) -> Transforms:
        """The preprocessing that converts PIL images, arrays and uint8 tensors to input batches."""
        dataset: object = getattr(getattr(self.spec, "recipe", None), "dataset", None)
        resize_mode: Any = getattr(dataset, "fit", "stretch")
        white: Any = getattr(dataset, "white", None)
        return Transforms(self.spec.input, self.scaler, self.columns, resize_mode, white)

    @property
    def scaler(self) -> Scaler | None:
        """The scaling computed from the training inputs; None if they were not scaled."""
        if self.input_shift is None or self.input_scale is None:
            return None
        return Scaler(self.input_shift, self.input_scale)

    @scaler.setter
    def scaler(self, scaler: Scaler | None) -> None:
        self.input_shift = None if scaler is None else scaler.shift
        self.input_scale = None if scaler is None else scaler.scale

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Autoencoder":
        # The scaling keeps its precision when the weights are converted to another dtype.
        scaling = {name: getattr(self, name) for name in ("input_shift", "input_scale")}
        for name in scaling:
            setattr(self, name, None)
        try:
            super()._apply(fn, recurse)
        except (AssertionError, RuntimeError) as error:
            # AssertionError: PyTorch without CUDA. RuntimeError: PyTorch with CUDA on a machine without.
            if isinstance(error, RuntimeError) and "NVIDIA" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise NotSupportedError(f"the device is not available: {reason}") from error
        finally:
            for name, tensor in scaling.items():
                setattr(self, name, tensor)
        for name, tensor in scaling.items():
            if tensor is not None and not tensor.is_meta:
                device = fn(tensor.float()).device
                # Apple's GPUs have no double precision.
                tensor = tensor if device.type == "mps" else tensor.to(device)
            setattr(self, name, fn(tensor) if tensor is not None and tensor.is_meta else tensor)
        return self

    @override
    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Copies parameters and buffers from a `state_dict()` of an autoencoder of the same spec.

        The scaling and the mean target, which a freshly built autoencoder does not have, are taken over too.

        Args:
            state_dict: tensors by name.
            strict: whether the names must be exactly those of this autoencoder.
            assign: whether to use the tensors themselves instead of copies.

        Returns:
            PyTorch's named tuple of missing and unexpected names.

        Raises:
            CheckpointError: names or shapes differ, with the code `tensor-mismatch`.
        """
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except RuntimeError as error:
            text = _state_mismatch(self.state_dict(), state_dict)
            raise CheckpointError("tensor-mismatch", f"this state_dict does not fit: {text}") from error

    @override
    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        # Buffers that are None are not loaded; a freshly built autoencoder has no statistics of data.
        for name in DATA_STATISTICS:
            given: object = state_dict.get(f"{prefix}{name}")
            if getattr(self, name) is None and isinstance(given, Tensor):
                shape = (self.spec.output if name == "target_mean" else self.spec.input).shape
                setattr(self, name, torch.zeros(shape, dtype=given.dtype, device=given.device))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    # -- records ----------------------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Measured numbers as in `metrics.json`, which belong to the weights at the last assignment."""
        if callable(self._metrics):
            self._metrics = self._metrics()
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: dict[str, dict[str, Any]]) -> None:
        self._metrics: dict[str, dict[str, Any]] | Callable[[], dict[str, Any]] = metrics
        self._described["metrics"] = self.fingerprint() if metrics else None

    @property
    def training_record(self) -> dict[str, Any]:
        """Circumstances of the training, which belong to the weights at the last assignment."""
        if callable(self._training_record):
            self._training_record = self._training_record()
        return self._training_record

    @training_record.setter
    def training_record(self, record: dict[str, Any]) -> None:
        self._training_record: dict[str, Any] | Callable[[], dict[str, Any]] = record
        self._described["training_record"] = self.fingerprint() if record else None

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per epoch of the training."""
        if self._history is None:
            found: object = self.training_record.get("history")
            self._history = cast(list[dict[str, Any]], found) if isinstance(found, list) else []
        return self._history

    @history.setter
    def history(self, history: list[dict[str, Any]]) -> None:
        self._history: list[dict[str, Any]] | None = history

    def set_records(
        self,
        metrics: Callable[[], dict[str, Any]],
        training_record: Callable[[], dict[str, Any]],
        fingerprint: Callable[[], str | None],
    ) -> None:
        """Sets the records of weights that were loaded; each function is called when it is first needed.

        Args:
            metrics: returns the metrics.
            training_record: returns the training record, which has the history.
            fingerprint: returns the fingerprint of the loaded weights; None if their file is gone or another.
        """
        self._metrics, self._training_record, self._history = metrics, training_record, None
        self._described = {"metrics": fingerprint, "training_record": fingerprint}
        self._loaded = self._state()

    def _state(self) -> tuple[object, ...]:
        """What changes with an assignment, and with most changes of tensors in place."""
        tensors = (*self.parameters(), *self.buffers())
        return (id(self.spec), self.columns, *((t.data_ptr(), t._version) for t in tensors))

    def _resolve_fingerprints(self) -> None:
        """Computes the fingerprints of loaded weights."""
        for record, known in list(self._described.items()):
            if callable(known):
                found = known()
                if found is None and self._state() == self._loaded:
                    # Without the file, only changes that PyTorch counts are noticed.
                    found = self.fingerprint()
                self._described[record] = found or "unknown"

    def __getstate__(self) -> dict[str, Any]:
        """The state to copy or to pickle, which does not refer to a file."""
        self._resolve_fingerprints()
        return vars(self).copy()

    def describes_weights(self, record: str) -> bool:
        """Whether nothing has changed that a record was made for: weights, statistics, columns and spec.

        Args:
            record: `metrics` or `training_record`.
        """
        if not getattr(self, record):
            return True
        self._resolve_fingerprints()
        known = self._described[record]
        return known is None or known == self.fingerprint()

    def fingerprint(self) -> str | None:
        """A sha256 of what the network computes: spec without name and texts, columns and all tensors.

        Floating-point tensors count as float32. None on the meta device, where there are no values.
        """
        state: dict[str, Tensor] = self.state_dict()
        if any(tensor.is_meta for tensor in state.values()):
            return None
        return fingerprint(self.spec, self.columns, state)

    # -- other libraries' verbs -------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Writes a folder; the same as `aezoo.save(ae, folder)`.

        Args:
            folder: created with its parents.
            overwrite: whether a folder with weights may be replaced.

        Returns:
            The folder.

        Raises:
            CheckpointError: as for `aezoo.save`.
        """
        return _zoo("save").save(self, folder, overwrite=overwrite)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *, revision: str | None = None) -> "Autoencoder":
        """Loads and verifies a variant; the same as `aezoo.load("hub:OWNER/NAME@REVISION")`.

        Args:
            name: `owner/name` on the Hub, a folder, or the name of a variant.
            revision: a branch, tag or commit of the repository; its main branch by default.

        Raises:
            UnknownVariantError, CheckpointError, HubError: as for `aezoo.load`; or a revision of something
                that is not a repository.
        """
        return _zoo("pretrained").from_pretrained(name, revision)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = False,
        tag: str | None = None,
        license: str | None = None,
        allow_modified: bool = False,
    ) -> Any:
        """Publishes the autoencoder on the Hub, then downloads and compares every file, as `aezoo.push` does.

        Args:
            repository: `owner/name`; the variant is published under this name.
            private: whether a new repository is visible to its owner only.
            tag: for the commit, such as `v1.0`; an existing tag never moves.
            license: of the weights, for the card, such as `mit`.
            allow_modified: whether to publish weights that were changed after their training.

        Returns:
            What was published, as for `aezoo.push`.

        Raises:
            NotSupportedError: the spec is not that of a variant.
            CheckpointError, HubError: as for `aezoo.push`; or the name is that of another published variant.
        """
        options = {"private": private, "tag": tag, "license": license, "allow_modified": allow_modified}
        return _zoo("pretrained").push_to_hub(self, repository, **options)

    # -- printing ---------------------------------------------------------------------------------

    def summary(self) -> list[LayerRow]:
        """One row per layer: path, kind with options, input shape, output shape, number of parameters."""
        spec = self.spec.resolved()
        specs = {f"encoder.{i}": layer for i, layer in enumerate(spec.encoder)}
        specs |= {f"decoder.{i}": layer for i, layer in enumerate(spec.decoder)}
        rows: list[LayerRow] = []
        for path, layer_spec in specs.items():
            count = sum(p.numel() for p in self.get_submodule(path).parameters())
            kind = describe_layer(layer_spec)
            rows.append(LayerRow(path, kind, *self.shapes[path], count))
        return rows

    def _title(self) -> str:
        name: str = getattr(self.spec, "name", "autoencoder")
        shape = format_shape(self.spec.input.shape)
        return f"{name}: {shape} -> {self.num_latents:,} latents, {self.num_parameters:,} parameters"

    @override
    def __repr__(self) -> str:
        return as_text(self._title(), self.summary())

    def _repr_html_(self) -> str:
        return as_html(self._title(), self.summary())


def fingerprint(spec: AutoencoderSpec, columns: tuple[str, ...], tensors: Mapping[str, Tensor]) -> str:
    """What `Autoencoder.fingerprint` returns, of a network with a spec, columns and tensors."""
    data = spec.resolved().model_dump(mode="json", exclude={"name", "summary", "references"}, fallback=repr)
    digest = hashlib.sha256(json.dumps([data, columns], sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else None)
        digest.update(f"{name} {list(values.shape)}".encode())
        digest.update(cast(Any, values.contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _require_tensor(x: object, what: str, hint: str) -> None:
    if not isinstance(x, Tensor):
        raise DataError(f"expected a tensor as {what}, found {type_name(x)}; {hint}")


def _require_int(value: object, name: str, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, found {value!r}")


def _state_mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Any]) -> str:
    """What is wrong with the names and shapes of a state_dict that could not be loaded."""
    for prefix in ("module.", "_orig_mod.", "model."):
        if found and all(name.startswith(prefix) for name in found):
            return f"every name begins with {prefix!r}; remove this prefix from the names"
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    shapes = [
        f"{name} is {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
        for name, value in found.items()
        if name in expected and isinstance(value, Tensor) and value.shape != expected[name].shape
    ]
    parts = [
        f"{len(names)} {word}, such as {names[0]}"
        for names, word in (
            (missing, "tensors missing"), (unexpected, "not expected"), (shapes, "of another shape")
        )
        if names
    ]  # fmt: skip
    hint = "build the spec that it was saved from, or load a folder with aezoo.load"
    return "; ".join([*parts, hint])


def require_autoencoder(ae: object) -> None:
    """Checks the type of an argument.

    Raises:
        NotSupportedError: it is not an autoencoder.
    """
    if not isinstance(ae, Autoencoder):
        how = "aezoo.load gives one by name or folder, aezoo.build from a spec"
        raise NotSupportedError(f"expected an Autoencoder, found {type_name(ae)}; {how}")


@contextmanager
def eval_mode(ae: Autoencoder) -> Generator[None]:
    """Switches to evaluation mode inside the context; afterwards restores the mode of every module."""
    modes = [(module, module.training) for module in ae.modules()]
    ae.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def get_layer(ae: Autoencoder, path: str) -> nn.Module | None:
    """The layer at a path such as `encoder.1`, or the whole `encoder` or `decoder`; None if there is none."""
    if path.partition(".")[0] not in ("encoder", "decoder"):
        return None
    try:
        return ae.get_submodule(path)
    except AttributeError:
        return None


def _zoo(module: str) -> Any:
    """A module of `aezoo.zoo`, which is built on this one and is therefore found when it is needed."""
    return importlib.import_module(f"aezoo.zoo.{module}")
