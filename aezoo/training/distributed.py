"""Several processes, on one machine or many, that train one network on shares of every batch.

Each process draws the same batches and the same noise, runs the network on its own rows, and is given
everybody's outputs, so that the objective is computed on the whole batch wherever rows depend on one another.
Started by `torchrun` or `accelerate launch`, which set the variables that are read here.
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
"""Seconds that a process waits for the others, unless `AEZOO_TIMEOUT` says otherwise."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a training, as one of them sees them.

    Attributes:
        rank: this one's number, from 0, which is the one that writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def bounds(self, rows: int, rank: int | None = None) -> tuple[int, int]:
        """Which rows of a batch a process runs, by default this one."""
        share = -(-rows // self.size)
        rank = self.rank if rank is None else rank
        return min(rank * share, rows), min((rank + 1) * share, rows)

    def mine(self, x: Tensor) -> Tensor:
        """This process's rows; where there are too few for everyone, one that is thrown away again."""
        low, high = self.bounds(len(x))
        return x[low:high] if high > low else x[:1]

    def forward(self, ae: Autoencoder, modules: Iterable[nn.Module] = ()) -> Callable[[Tensor], Output]:
        """What runs the network on a whole batch, each process on its rows.

        Args:
            ae: the network, the same in every process.
            modules: those of its layers whose rows depend on one another; they see the whole batch.
        """
        if self.size == 1:
            return ae

        def run(x: Tensor) -> Output:
            with self._spanning(modules, len(x)):
                out = ae(self.mine(x))
            aux = {name: self._gathered(value, len(x), False) for name, value in out.aux.items()}
            x_hat, latents = (self._gathered(value, len(x), False) for value in (out.x_hat, out.latents))
            return Output(x_hat, latents, aux)

        return run

    @contextmanager
    def _spanning(self, modules: Iterable[nn.Module], rows: int) -> Generator[None]:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (self._gathered(inputs[0], rows, True), *inputs[1:])

        def after(_: nn.Module, __: object, out: Tensor) -> Tensor:
            return self.mine(out)

        with ExitStack() as handles:
            for module in modules:
                handles.callback(module.register_forward_pre_hook(before).remove)
                handles.callback(module.register_forward_hook(after).remove)
            yield

    def _gathered(self, local: Tensor, rows: int, within: bool) -> Tensor:
        return cast(Tensor, cast(Any, _Gather).apply(local, self, rows, within))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes every process's gradients those of the whole batch."""
        if self.size == 1:
            return
        found = [p for p in parameters if p.grad is not None]
        grads = [cast(Tensor, p.grad) for p in found]
        # One message for all of them.
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        flat.div_(self.size)
        start = 0
        for grad in grads:
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()

    def agreed(self, value: Any) -> Any:
        """What the first process has, in all of them."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def everyones(self, value: Any) -> list[Any]:
        """What each process has, by rank."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value)
        return box

    @torch.no_grad()
    def same_buffers(self, modules: Iterable[nn.Module]) -> None:
        """Gives every process the first one's running statistics."""
        if self.size > 1:
            for module in modules:
                for buffer in module.buffers():
                    dist.broadcast(buffer, src=0)


class _Gather(torch.autograd.Function):
    """Everybody's rows.

    Behind the network, every process computes the whole objective, so that the gradient of its own rows is
    all that it needs; it is scaled up, because gradients of weights are averaged in the end. Within the
    network, a process's rows reach everybody's outputs, whose gradients are summed.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor, crew: ProcessGroup, rows: int, within: bool) -> Tensor:
        ctx.crew, ctx.rows, ctx.within, ctx.local = crew, rows, within, local.shape
        share = -(-rows // crew.size)
        padded = local.new_zeros((share, *local.shape[1:]))
        low, high = crew.bounds(rows)
        padded[: high - low] = local[: high - low]
        parts = [torch.empty_like(padded) for _ in range(crew.size)]
        dist.all_gather(parts, padded)
        return torch.cat(parts)[:rows]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (whole,) = grads
        crew: ProcessGroup = ctx.crew
        if ctx.within:
            whole = whole.contiguous()
            dist.all_reduce(whole)
        else:
            whole = whole * crew.size
        low, high = crew.bounds(ctx.rows)
        local = whole.new_zeros(ctx.local)
        local[: high - low] = whole[low:high]
        return local, None, None, None


@contextmanager
def init_distributed(device: torch.device) -> Generator[ProcessGroup]:
    """The crew that this process was started in; a crew of one where it was started alone.

    Raises:
        TrainingError: another process of the crew died, or did not answer in time.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 and not dist.is_initialized():
        yield ProcessGroup()
        return
    own = not dist.is_initialized()
    try:
        if own:
            wait = timedelta(seconds=int(os.environ.get("AEZOO_TIMEOUT", TIMEOUT)))
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=wait)
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    except (dist.DistError, RuntimeError) as error:
        if isinstance(error, TrainingError) or not _is_of_the_crew(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"another process of this training died or fell silent: {reason}") from error
    finally:
        if own and dist.is_initialized():
            dist.destroy_process_group()


def _is_of_the_crew(error: Exception) -> bool:
    words = ("gloo", "NCCL", "Connection", "connection", "timed out", "Timed out", "Timeout", "peer")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def env_rank() -> int:
    """This process's number, before anything was joined; 0 where it was started alone."""
    return int(os.environ.get("RANK", "0"))
