"""Source of the layers in exported Python files, as they are in evaluation and without aezoo."""

PRE_BIAS = '''
class PreBias(nn.Module):
    """Subtracts a learned bias."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        return h - self.bias
'''

BATCH_TOPK = '''
class BatchTopK(nn.Module):
    """Keeps positive values above a threshold, the running mean of those of the training batches."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.zeros(()))
        # Number of training batches.
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        positive = F.relu(h)
        return torch.where(positive > self.threshold, positive, 0.0)
'''

JUMP_RELU = '''
class JumpReLU(nn.Module):
    """Keeps values above a learned threshold. The threshold has no gradient here."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.log_threshold = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        return h * (h > self.log_threshold.exp())
'''

GATED_LINEAR = '''
class GatedLinear(nn.Module):
    """A gate selects the active latents; the same weights, rescaled, give their values."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(out_features))
        self.magnitude_bias = nn.Parameter(torch.zeros(out_features))
        self.log_scale = nn.Parameter(torch.zeros(out_features))

    def forward(self, h: Tensor) -> Tensor:
        shared = self.linear(h)
        gate = shared + self.gate_bias
        magnitude = F.relu(self.log_scale.exp() * shared + self.magnitude_bias)
        return (gate > 0).to(h.dtype) * magnitude
'''
