"""The networks: pixels instead of a VAE's latents, three levels, no mid block, velocity."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer

from common import text
from common.kit import Kit, copied
from common.vae import Pixels
from outlines.scenes import WORLD


class Outlines(Kit):
    """Squares of two by two pixels are the channels of the latent."""

    world = WORLD
    tokens = 20
    cell = 2
    channels = 12
    batch = 12
    guidance = 4.0
    steps: ClassVar = {"text": 700, "vae": 0, "unet": 500, "controlnet": 3300}

    def tokenizers(self) -> list[Tokenizer]:
        """One."""
        return [text.tokenizer(WORLD.words, self.tokens)]

    def encoders(self) -> list[Any]:
        """One."""
        return [text.encoder(WORLD.words, self.tokens, 64)]

    def vae(self) -> Pixels:
        """None to train."""
        return Pixels(self.cell)

    def unet(self) -> UNet2DConditionModel:
        """Cross-attention at the two lower levels, one layer a block, nothing in the middle."""
        return UNet2DConditionModel(
            sample_size=WORLD.height // self.cell,
            in_channels=self.channels,
            out_channels=self.channels,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type=None,
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(24, 48, 64),
            layers_per_block=1,
            cross_attention_dim=64,
            attention_head_dim=(2, 4, 4),  # the number of heads, despite the name
            norm_num_groups=8,
        )

    def controlnet(self, unet: UNet2DConditionModel) -> Any:
        """It sees lines, not the labels in blue."""
        controlnet = copied(unet, (8, 24))
        with torch.no_grad():
            controlnet.controlnet_cond_embedding.conv_in.weight[:, 2] = 0.0
        return controlnet

    def seen(self, controls: torch.Tensor) -> torch.Tensor:
        """The lines alone, so that the weights for blue stay zero."""
        shown = super().seen(controls)
        shown[:, 2] = 0.0
        return shown

    def scheduler(self) -> DDIMScheduler:
        """Betas of a squared cosine, velocity, steps spaced from the last one."""
        return DDIMScheduler(
            beta_schedule="squaredcos_cap_v2",
            clip_sample=False,
            set_alpha_to_one=True,
            timestep_spacing="trailing",
            prediction_type="v_prediction",
        )


KIT = Outlines()
