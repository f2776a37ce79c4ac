"""The classes that an exported Python file defines for layers that PyTorch does not have, as text.

Each computes the same, bit for bit, as the module of aezoo whose name it has, in training as in evaluation.
"""

STEPS = '''
def steps(**modules: nn.Module) -> nn.Sequential:
    """Modules that run one after the other, each with a name."""
    return nn.Sequential(OrderedDict(modules))
'''

UNIT_NORM_LINEAR = '''
class UnitNormLinear(nn.Linear):
    """A linear layer whose weight columns, one per input feature, have length 1."""

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, F.normalize(self.weight, dim=0), self.bias)
'''

TOPK = '''
class TopK(nn.Module):
    """Keeps the k largest values of each sample and sets the others to zero."""

    def __init__(self, k: int, by_magnitude: bool = False) -> None:
        super().__init__()
        self.k = k
        self.by_magnitude = by_magnitude

    def forward(self, h: Tensor) -> Tensor:
        values = h.flatten(1)
        ranked = values.abs() if self.by_magnitude else values
        kept = ranked.topk(self.k, dim=1, sorted=False).indices
        return torch.zeros_like(values).scatter(1, kept, values.gather(1, kept)).view_as(h)
'''

LIFETIME = '''
class Lifetime(nn.Module):
    """In training, keeps each latent for the share `rate` of the batch; otherwise the identity."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            return h
        samples = max(1, round(self.rate * len(h)))
        kept = h.topk(samples, dim=0, sorted=False).indices
        return torch.zeros_like(h).scatter(0, kept, h.gather(0, kept))
'''

GAUSSIAN_SAMPLE = '''
class GaussianSample(nn.Module):
    """Takes means and log variances. Draws from the normal distribution in training.

    In evaluation it returns the mean.
    """

    def forward(self, h: Tensor) -> Tensor:
        mean, log_var = h.chunk(2, dim=1)
        if not self.training:
            return mean
        return mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
'''

SPACED_ZEROS = '''
class SpacedZeros(nn.Module):
    """Enlarges every axis by a factor: each value is followed by zeros."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, h: Tensor) -> Tensor:
        out = h.new_zeros((*h.shape[:2], *(size * self.factor for size in h.shape[2:])))
        out[(..., *(slice(None, None, self.factor) for _ in h.shape[2:]))] = h
        return out
'''

RESIDUAL = '''
class Residual(nn.Module):
    """h + inner(h), followed by an optional activation."""

    def __init__(self, inner: nn.Module, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.activation = activation

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.inner(h)
        return h if self.activation is None else self.activation(h)
'''

RESIDUAL_WITH_AUX = '''
class Residual(nn.Module):
    """h + inner(h), followed by an optional activation."""

    def __init__(self, inner: nn.Module, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.activation = activation

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        h = h + self.inner(h, aux)
        return h if self.activation is None else self.activation(h)
'''

SWITCHING_MAX_POOL = '''
class SwitchingMaxPool(nn.Module):
    """Max pooling that records in `aux` where in each window the largest value was."""

    def __init__(self, name: str, pool: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.pool = pool

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        h, aux[self.name] = self.pool(h)
        return h
'''

SWITCHED_MAX_UNPOOL = '''
class SwitchedMaxUnpool(nn.Module):
    """Puts each value where the max pooling of the same name found it, and zeros elsewhere."""

    def __init__(self, name: str, unpool: nn.Module, size: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.name = name
        self.unpool = unpool
        self.size = size

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        return self.unpool(h, aux[self.name], output_size=self.size)
'''

LAYERS = '''
class Layers(nn.Sequential):
    """Runs layers in order. Those of WITH_AUX also read or write the tensors in `aux`."""

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        for layer in self:
            h = layer(h, aux) if isinstance(layer, WITH_AUX) else layer(h)
        return h
'''
