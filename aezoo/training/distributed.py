"""Data-parallel training: several processes train one network on shards of every batch.

Every process draws the same batches and the same noise, runs the network on its shard, and gathers the
outputs of all ranks. The objective is then computed on the whole batch, because its terms may depend on
several rows at once. `torchrun` and `accelerate launch` set the environment variables that are read here.
"""

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aezoo.errors import TrainingError
from aezoo.model.autoencoder import Autoencoder, Output

TIMEOUT = 300
"""Seconds that a rank waits for the others, unless `AEZOO_TIMEOUT` is set."""


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

    def forward(self, ae: Autoencoder, modules: Iterable[nn.Module] = ()) -> Callable[[Tensor], Output]:
        """Returns a function that runs the network on a whole batch, each rank on its shard.

        `modules` are layers whose rows depend on one another; they are given the whole batch.
        """
        if self.world_size == 1:
            return ae

        def run(x: Tensor) -> Output:
            with self._gather_inputs_of(modules, len(x)):
                out = ae(self.shard(x))
            aux = {name: self._all_gather_rows(value, len(x)) for name, value in out.aux.items()}
            x_hat, latents = (self._all_gather_rows(value, len(x)) for value in (out.x_hat, out.latents))
            return Output(x_hat, latents, aux)

        return run

    @contextmanager
    def _gather_inputs_of(self, modules: Iterable[nn.Module], rows: int) -> Generator[None]:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (self._all_gather_rows(inputs[0], rows, inside=True), *inputs[1:])

        def after(_: nn.Module, __: object, out: Tensor) -> Tensor:
            return self.shard(out)

        with ExitStack() as handles:
            for module in modules:
                handles.callback(module.register_forward_pre_hook(before).remove)
                handles.callback(module.register_forward_hook(after).remove)
            yield

    def _all_gather_rows(self, local: Tensor, rows: int, inside: bool = False) -> Tensor:
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
    def sync_buffers(self, module: nn.Module) -> None:
        """Copies rank 0's buffers, such as running statistics, to every process."""
        if self.world_size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


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
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 and not dist.is_initialized():
        yield ProcessGroup()
        return
    created = not dist.is_initialized()
    try:
        if created:
            timeout = timedelta(seconds=int(os.environ.get("AEZOO_TIMEOUT", TIMEOUT)))
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
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
    return int(os.environ.get("RANK", "0"))
