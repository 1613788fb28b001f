"""Teach cross-attention where to look: every place at the words of the shape that lies there.

Denoising alone learns last which colour belongs to which shape. In training, unlike later, the map
says what lies where and the prompt says which token names it, so that the attention can be told
(grounding by segmentation maps, as TokenCompose, arXiv 2312.03626, does for Stable Diffusion).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as functional

import networks
import scenes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.binding import loss, watch

__all__ = ["loss", "watch", "words"]

_NOUNS = torch.tensor([networks.WORDS.index(kind) for kind in scenes.KINDS])
_END = networks.WORDS.index(networks.END)
_COLOURS = torch.from_numpy(scenes.MAP_COLOURS)


def words(tokens: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The share of every token in every cell of the latents, ``[n, TOKENS, y, x]``.

    Of the last word of a shape's phrase, or of the ground's; of the others nothing.
    """
    sides = maps.permute(0, 2, 3, 1).unsqueeze(-2)
    kinds = (sides == _COLOURS).all(-1).float().permute(0, 3, 1, 2)
    cells = functional.avg_pool2d(kinds, 8)
    places = torch.arange(tokens.shape[1])
    ends = (tokens == _END).int().argmax(1, keepdim=True)
    ground = (places == ends - 1).unsqueeze(1)
    nouns = tokens.unsqueeze(1) == _NOUNS[:, None]
    names = torch.cat([ground, nouns], 1).float()
    return torch.einsum("nkt,nkyx->ntyx", names, cells)
