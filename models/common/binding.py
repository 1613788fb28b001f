"""Teach cross-attention where to look: every place at the words of what lies there.

Denoising alone learns last which colour belongs to which region. In training, unlike later, labels
say what lies where and the prompt says which token names it, so that the attention can be told
(grounding by segmentation maps, as TokenCompose, arXiv 2312.03626, does for Stable Diffusion).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn


class Watched:
    """An attention processor that keeps the probabilities of the last call, ``[n, places, tokens]``."""

    def __init__(self) -> None:
        self.seen: torch.Tensor | None = None

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        **_: Any,
    ) -> torch.Tensor:
        """Cross-attention, the heads' mean of the probabilities kept."""
        queries = attention.to_q(hidden_states)
        keys = attention.to_k(encoder_hidden_states)
        values = attention.to_v(encoder_hidden_states)
        queries, keys, values = (
            part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in (queries, keys, values)
        )
        probabilities = (queries @ keys.transpose(-1, -2) * attention.scale).softmax(-1)
        self.seen = probabilities.mean(1)
        joined = (probabilities @ values).transpose(1, 2).flatten(2)
        result: torch.Tensor = attention.to_out[0](joined)
        return result


def watch(*models: nn.Module) -> list[Watched]:
    """Watch all cross-attentions of models."""
    watched = []
    for model in models:
        for name, module in model.named_modules():
            if name.endswith("attn2"):
                watched.append(Watched())
                module.set_processor(watched[-1])
    return watched


def shares(labels: torch.Tensor, anchors: torch.Tensor, tokens: int, cell: int) -> torch.Tensor:
    """The share of every token in every cell of the latents, ``[n, tokens, y, x]``.

    Of the token that names a region; of the others nothing.
    """
    regions = torch.arange(anchors.shape[1])
    parts = (labels.unsqueeze(1) == regions[:, None, None]).float()
    cells = functional.avg_pool2d(parts, cell)
    names = (anchors.unsqueeze(-1) == torch.arange(tokens)).float()
    return torch.einsum("nrt,nryx->ntyx", names, cells)


def loss(watched: list[Watched], target: torch.Tensor, prompted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of what the attentions saw and what they should; only of prompts not dropped."""
    total = torch.zeros(())
    for one in watched:
        if one.seen is None:
            continue
        # Each level of a UNet halves the sides.
        shrunk = math.isqrt(target.shape[2] * target.shape[3] // one.seen.shape[1])
        pooled = functional.avg_pool2d(target[prompted], shrunk)
        wanted = pooled.flatten(2).transpose(1, 2)
        seen = one.seen[prompted].clamp_min(1e-6).log()
        total = total - (wanted * seen).sum(-1).mean()
    return total / len(watched)
