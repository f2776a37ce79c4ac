"""Data-parallel training: several processes train one network on shards of every batch.

Every process draws the same batches and the same noise, runs the network on its shard, and gathers the
outputs of all ranks. The objective is then computed on the whole batch, because its terms may depend on
several rows at once. Layers that keep running statistics or mix rows are given the whole batch as well.
`torchrun` and `accelerate launch` set the environment variables that are read here.
"""

from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from aezoo.errors import TrainingError, env_int
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.model.output import Output
from aezoo.model.sequential import Aux, LayerSequence, declared

TIMEOUT = 300
"""Seconds that a rank waits for the others, unless `AEZOO_TIMEOUT` is set."""
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class ProcessGroup:
    """Rank (from 0) and world size of this process, and the collective operations of a training."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def bounds(self, rows: int) -> tuple[int, int]:
        """Returns the first row, and the last row + 1, of this rank's shard of a batch."""
        share = -(-rows // self.world_size)
        return min(self.rank * share, rows), min((self.rank + 1) * share, rows)

    def smallest_shard(self, rows: int) -> int:
        """Returns the number of rows of the smallest shard of a batch, at least 1."""
        last = self.world_size - 1
        return max(1, rows - last * -(-rows // self.world_size))

    def shard(self, x: Tensor) -> Tensor:
        """Returns this rank's shard of a batch; the first row if the shard is empty."""
        low, high = self.bounds(len(x))
        return x[low:high] if high > low else x[:1]

    def forward(self, ae: Autoencoder, global_batch_norm: bool = False) -> Callable[[Tensor], Output]:
        """Returns a function that runs the network on a whole batch, each rank on its shard.

        Layers that `whole_batch_layers` finds are given the whole batch in every process.
        """
        if self.world_size == 1:
            return ae
        per_row = per_row_aux(ae)
        modules = whole_batch_layers(ae, per_row, global_batch_norm)

        def run(x: Tensor) -> Output:
            with ExitStack() as handles:
                for module in modules:
                    WholeBatch(self, per_row, len(x)).hook(module, handles)
                out = ae(self.shard(x))
            aux = {
                name: self.all_gather_rows(value, len(x)) if name in per_row else value
                for name, value in out.aux.items()
            }
            x_hat, latents = (self.all_gather_rows(value, len(x)) for value in (out.x_hat, out.latents))
            return Output(x_hat, latents, aux)

        return run

    def all_gather_rows(self, local: Tensor, rows: int, inside: bool = False) -> Tensor:
        """Returns the `rows` rows of all ranks' shards; `inside` the network or at its output."""
        return cast(Tensor, cast(Any, _AllGatherRows).apply(local, self, rows, inside))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Averages gradients over all ranks."""
        if self.world_size == 1:
            return
        found = [p for p in parameters if p.grad is not None]
        grads = [cast(Tensor, p.grad) for p in found]
        # One message for all gradients.
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        flat.div_(self.world_size)
        start = 0
        for grad in grads:
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()

    def broadcast(self, value: Any) -> Any:
        """Returns rank 0's value in every process."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def all_gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, by rank."""
        if self.world_size == 1:
            return [value]
        box: list[Any] = [None] * self.world_size
        dist.all_gather_object(box, value)
        return box

    @torch.no_grad()
    def sync_buffers(self, *modules: nn.Module) -> None:
        """Copies rank 0's buffers, such as running statistics, to every process."""
        if self.world_size > 1:
            for module in modules:
                for buffer in module.buffers():
                    dist.broadcast(buffer, src=0)

    @torch.no_grad()
    def sync_random_state(self, device: torch.device) -> None:
        """Copies the state of rank 0's default generators to every process."""
        carrier = device if dist.get_backend() == "nccl" else torch.device("cpu")
        states = [state.to(carrier) for state in random_state(device)]
        for state in states:
            dist.broadcast(state, src=0)
        set_random_state([state.cpu() for state in states], device)


def random_state(device: torch.device) -> list[Tensor]:
    """The states of the default generators of the CPU and, if it is a GPU, of a device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(states: list[Tensor], device: torch.device) -> None:
    """Restores what `random_state` returned."""
    cpu, *cuda = states
    torch.set_rng_state(cpu)
    for state in cuda:
        torch.cuda.set_rng_state(state, device)


@dataclass(frozen=True)
class WholeBatch:
    """Gives a layer the whole batch in every process, and passes on this rank's shard of what it returns.

    What the layer draws is the same in every process: it follows rank 0's generator.

    Attributes:
        group: the process group.
        per_row: names of the emitted tensors that have a row for each row of the batch.
        rows: number of rows of the batch.
    """

    group: ProcessGroup
    per_row: frozenset[str]
    rows: int
    callers: list[tuple[Aux, list[Tensor]]] = field(default_factory=list[tuple[Aux, list[Tensor]]])

    def hook(self, module: nn.Module, handles: ExitStack) -> None:
        """Registers hooks that are removed when `handles` closes."""
        handles.callback(module.register_forward_pre_hook(self._before).remove)
        handles.callback(module.register_forward_hook(self._after).remove)

    def _before(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        h, *more = inputs
        aux: Aux = more[0] if more else {}
        self.callers.append((aux, random_state(h.device)))
        self.group.sync_random_state(h.device)
        whole = {
            name: self.group.all_gather_rows(value, self.rows, inside=True) if name in self.per_row else value
            for name, value in aux.items()
        }
        return (self.group.all_gather_rows(h, self.rows, inside=True), *([whole] if more else []))

    def _after(self, _: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
        aux, state = self.callers.pop()
        if self.group.rank > 0:
            # Ranks draw different numbers for their shards, such as dropout masks.
            set_random_state(state, out.device)
        whole: Aux = inputs[1] if len(inputs) > 1 else {}
        for name, value in whole.items():
            if name not in aux:
                aux[name] = self.group.shard(value) if name in self.per_row else value
        return self.group.shard(out)


@torch.no_grad()
def per_row_aux(ae: Autoencoder) -> frozenset[str]:
    """Names of the emitted tensors whose first axis has the rows of the batch, found by two batches."""
    device = next((tensor.device for tensor in (*ae.parameters(), *ae.buffers())), torch.device("cpu"))
    dtype = next((parameter.dtype for parameter in ae.parameters()), torch.float32)
    with eval_mode(ae), torch.random.fork_rng([device] if device.type == "cuda" else []):
        first, second = (
            ae(torch.zeros((rows, *ae.spec.input.shape), device=device, dtype=dtype)).aux for rows in (2, 3)
        )
    return frozenset(
        name for name in first if first[name].shape[:1] == (2,) and second[name].shape[:1] == (3,)
    )


def whole_batch_layers(ae: Autoencoder, per_row: Collection[str], global_batch_norm: bool) -> list[nn.Module]:
    """The modules that need the whole batch, because their results for its shards would be others.

    Those are layers that keep buffers (other than batch normalization), that declare `mixes_rows`, or that
    emit tensors without an axis for the rows; and batch normalizations if they span all processes.
    """
    found: list[nn.Module] = []

    def visit(layer: nn.Module) -> None:
        sequences = [child for child in layer.modules() if isinstance(child, LayerSequence)]
        # Of a container, only its own buffers count; its layers are visited one by one.
        parts = [layer] if sequences else list(layer.modules())
        emitted = [] if sequences else [name for name in declared(layer)[0] if name not in per_row]
        if any(map(_depends_on_batch, parts)) or emitted:
            found.append(layer)
            return
        if sequences:
            for child in sequences[0]:
                visit(child)
        elif global_batch_norm:
            found.extend(part for part in parts if isinstance(part, BATCH_NORMS))

    for sequence in (ae.encoder, ae.decoder):
        for layer in sequence:
            visit(layer)
    return found


def _depends_on_batch(module: nn.Module) -> bool:
    if getattr(module, "mixes_rows", False):
        return True
    return not isinstance(module, _BatchNorm) and any(True for _ in module.buffers(recurse=False))


class _AllGatherRows(torch.autograd.Function):
    """Gathers the rows of all ranks, differentiably.

    Every rank computes the whole objective, so the gradient of its rows of the network's output is complete.
    It is scaled by the world size, because gradients of weights are averaged. Inside the network, a rank's
    rows reach the outputs of all ranks, whose gradients are summed.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor, group: ProcessGroup, rows: int, inside: bool) -> Tensor:
        ctx.group, ctx.rows, ctx.inside, ctx.local = group, rows, inside, local.shape
        share = -(-rows // group.world_size)
        padded = local.new_zeros((share, *local.shape[1:]))
        low, high = group.bounds(rows)
        padded[: high - low] = local[: high - low]
        parts = [torch.empty_like(padded) for _ in range(group.world_size)]
        dist.all_gather(parts, padded)
        return torch.cat(parts)[:rows]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (whole,) = grads
        group: ProcessGroup = ctx.group
        if ctx.inside:
            whole = whole.contiguous()
            dist.all_reduce(whole)
        else:
            whole = whole * group.world_size
        low, high = group.bounds(ctx.rows)
        local = whole.new_zeros(ctx.local)
        local[: high - low] = whole[low:high]
        return local, None, None, None


@contextmanager
def init_distributed(device: torch.device) -> Generator[ProcessGroup]:
    """Context manager that joins the process group in which this process was started, if any.

    Raises:
        TrainingError: another rank failed or timed out.
    """
    size = env_int("WORLD_SIZE", 1)
    if size == 1 and not dist.is_initialized():
        yield ProcessGroup()
        return
    created = not dist.is_initialized()
    try:
        if created:
            timeout = timedelta(seconds=env_int("AEZOO_TIMEOUT", TIMEOUT))
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
        # NCCL sends objects through the current GPU, which must be another one in every process.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    except (dist.DistError, RuntimeError) as error:
        words = ("gloo", "NCCL", "Connection", "connection", "timed out", "Timed out", "Timeout", "peer")
        communication = isinstance(error, dist.DistError) or any(word in str(error) for word in words)
        if isinstance(error, TrainingError) or not communication:
            raise
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"another rank failed or timed out: {reason}") from error
    finally:
        if created and dist.is_initialized():
            dist.destroy_process_group()


def env_rank() -> int:
    """Returns this process's rank before the process group is joined; 0 if it was started alone."""
    return env_int("RANK", 0, least=0)
