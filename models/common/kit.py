"""What a pipeline to train consists of."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import ControlNetModel
from tokenizers import Tokenizer
from torch import nn

from common.scenes import World


class Kit(abc.ABC):
    """The networks of a pipeline, untrained, and how to train them."""

    world: World
    # Tokens of a prompt.
    tokens: int
    # Channels of a latent, and pixels of its cells.
    channels: int
    cell: int
    # Steps of every stage: text, vae, unet, controlnet.
    steps: ClassVar[dict[str, int]]
    batch = 16
    rate = 1.5e-3
    # Guidance at which held-out scenes are drawn.
    guidance = 5.0
    # Encoded scenes kept in memory.
    pool = 8192

    @abc.abstractmethod
    def tokenizers(self) -> list[Tokenizer]:
        """One, or two as SDXL has."""

    @abc.abstractmethod
    def encoders(self) -> list[Any]:
        """A text encoder for each tokenizer."""

    @abc.abstractmethod
    def vae(self) -> nn.Module:
        """The autoencoder."""

    @abc.abstractmethod
    def unet(self) -> Any:
        """The UNet."""

    @abc.abstractmethod
    def controlnet(self, unet: Any) -> Any:
        """The ControlNet, its encoder a copy of the UNet's."""

    @abc.abstractmethod
    def scheduler(self) -> Any:
        """The noise of training and the steps of sampling."""

    def seen(self, controls: torch.Tensor) -> torch.Tensor:
        """What training shows of control images: bytes to ``0..1``."""
        return controls.float() / 255.0

    def added(self, pooled: torch.Tensor | None) -> dict[str, torch.Tensor] | None:
        """The summary of prompts and the sizes that SDXL takes."""
        if pooled is None:
            return None
        height, width = float(self.world.height), float(self.world.width)
        sizes = torch.tensor([height, width, 0.0, 0.0, height, width])
        return {"text_embeds": pooled, "time_ids": sizes.repeat(len(pooled), 1)}


def copied(unet: Any, hints: Sequence[int]) -> Any:
    """A copy of the encoder of a UNet with zero convolutions, also of one without a mid block."""
    if unet.mid_block is not None:
        return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=tuple(hints))
    names = (
        "in_channels",
        "down_block_types",
        "block_out_channels",
        "layers_per_block",
        "cross_attention_dim",
        "attention_head_dim",
        "norm_num_groups",
        "transformer_layers_per_block",
        "use_linear_projection",
    )
    config = {name: unet.config[name] for name in names}
    # The constructor knows no ControlNet without a mid block, its forward does.
    controlnet = ControlNetModel(
        **config, mid_block_type="UNetMidBlock2D", conditioning_embedding_out_channels=tuple(hints)
    )
    controlnet.mid_block = None
    for name in ("conv_in", "time_embedding", "down_blocks"):
        getattr(controlnet, name).load_state_dict(getattr(unet, name).state_dict())
    return controlnet
