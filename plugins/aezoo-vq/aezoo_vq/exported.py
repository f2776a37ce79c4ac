"""Source of the layers in exported Python files, as they are in evaluation and without aezoo."""

QUANTIZE = '''
class Quantize(nn.Module):
    """Replaces each vector along the channel axis by the nearest one of a codebook."""

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.zeros(codes, channels))
        # Moving averages of the training.
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, channels))
        self.register_buffer("begun", torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        vectors = h.movedim(1, -1)
        flat = vectors.reshape(-1, vectors.shape[-1])
        distances = self.codebook.square().sum(1) - 2 * flat @ self.codebook.T
        quantized = self.codebook[distances.argmin(1)].view_as(vectors).movedim(-1, 1)
        # The value of `quantized`; its gradient is that of `h`.
        return h + (quantized - h).detach()
'''

FSQ = '''
class Fsq(nn.Module):
    """Rounds each channel to one of a few levels in [-1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("levels", torch.zeros(channels, dtype=torch.float64))

    def forward(self, h: Tensor) -> Tensor:
        levels = self.levels.to(h.dtype).view(-1, *[1] * (h.ndim - 2))
        # An even number of levels has none at 0: shift by half a step, and back.
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).to(h.dtype)
        scale = (levels - 1) / 2 * (1 + 1e-3)
        bounded = torch.tanh(h + torch.atanh(offset / scale)) * scale - offset
        # Rounded; the gradient is passed straight through.
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / torch.div(levels, 2, rounding_mode="floor")
'''
