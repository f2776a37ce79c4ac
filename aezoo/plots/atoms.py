"""Figures of dictionaries: what each latent adds to the output."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aezoo.errors import DataError, NotSupportedError
from aezoo.evaluation.metrics.latents import decoder_atoms
from aezoo.model.autoencoder import Autoencoder
from aezoo.plots.arguments import check_count, checked_scores
from aezoo.plots.data import note_below
from aezoo.plots.panels import as_maps, draw_grid
from aezoo.plots.reconstruction import name_of
from aezoo.plots.style import number, styled

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure


@styled
def dictionary(
    ae: Autoencoder, *, use: Tensor | None = None, columns: int = 16, most: int = 128, title: str = ""
) -> "Figure":
    """Draws the atoms of a decoder of one linear layer: the weights from each latent to the output.

    Blue is negative, red is positive. Each atom has its own scale. Channels of an atom stand side by side,
    and an atom that is a vector is a near-square map.

    Args:
        ae: its decoder has one linear layer.
        use: share of samples in which each latent is active, (latents,), from 0 to 1. The atoms are then
            sorted by it, and latents that are never active are left out.
        columns: atoms in a row.
        most: maximum number of atoms drawn, the first ones.
        title: title of the figure; by default the name of the network.

    Returns:
        A Matplotlib figure.

    Raises:
        NotSupportedError: the decoder has other layers with weights.
        DataError: `use` does not have one share for each latent, or no latent is active.
    """
    check_count(columns, "columns")
    check_count(most, "most")
    atoms = decoder_atoms(ae)
    if atoms is None:
        raise NotSupportedError("only decoders of one linear layer have a dictionary to draw")
    atoms = atoms.cpu().double()
    title = title or f"{name_of(ae)}: atoms of the dictionary"
    order = torch.arange(len(atoms))
    note = ""
    if use is not None:
        shares = checked_scores(use, "use")
        if len(shares) != len(atoms):
            expected = f"{len(atoms):,} shares, one for each latent"
            raise DataError(f"use: expected {expected}, found {len(shares):,}")
        if float(shares.min()) < 0 or float(shares.max()) > 1:
            raise DataError(f"use: expected shares from 0 to 1, found {number(float(shares.max()))}")
        order = shares.argsort(descending=True, stable=True)
        dead = int((shares == 0).sum())
        order = order[: len(order) - dead]
        if not len(order):
            raise DataError("use: expected at least one latent that is active, found none")
        first, last = (f"{number(100 * float(shares[i]))} %" for i in (order[0], order[:most][-1]))
        note = f"by use: active in {first} of the samples (first) to {last} (last)"
        note += f"; {dead:,} never" if dead else ""
    hidden = len(order) - most
    if hidden > 0:
        title = f"{title}, {most:,} of {len(order):,}"
    atoms = atoms[order[:most]]
    # A scale of its own for each atom.
    largest = atoms.abs().nan_to_num(0, 0, 0).flatten(1).amax(1).clamp(min=1e-300)
    scaled = atoms / largest.view(-1, *[1] * (atoms.ndim - 1))
    tiles = np.ascontiguousarray(as_maps(scaled, 1.0))
    figure = draw_grid(tiles, columns, title, bottom=0.22 if note else 0.0)[0]
    if note:
        note_below(figure, note)
    return figure
