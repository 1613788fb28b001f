"""The networks: four levels over a latent of eight channels, velocity, linear betas."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer

from common import text
from common.kit import Kit, copied
from landscapes.scenes import WORLD


class Landscapes(Kit):
    """Four times smaller latents of eight channels, not square."""

    world = WORLD
    tokens = 28
    cell = 4
    channels = 8
    guidance = 3.0
    batch = 12
    steps: ClassVar = {"text": 500, "vae": 1300, "unet": 400, "controlnet": 2400}

    def tokenizers(self) -> list[Tokenizer]:
        """One."""
        return [text.tokenizer(WORLD.words, self.tokens)]

    def encoders(self) -> list[Any]:
        """One, of two layers."""
        return [text.encoder(WORLD.words, self.tokens, 48, layers=2)]

    def vae(self) -> AutoencoderKL:
        """Four times smaller, eight channels, attention in the middle."""
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 24, 32),
            layers_per_block=1,
            latent_channels=self.channels,
            norm_num_groups=8,
            sample_size=WORLD.width,
            mid_block_add_attention=True,
        )

    def unet(self) -> UNet2DConditionModel:
        """Cross-attention at all levels but the last, one layer a block."""
        return UNet2DConditionModel(
            sample_size=WORLD.height // self.cell,
            in_channels=self.channels,
            out_channels=self.channels,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            block_out_channels=(24, 40, 64, 64),
            layers_per_block=1,
            cross_attention_dim=48,
            attention_head_dim=(2, 2, 4, 4),  # the number of heads, despite the name
            norm_num_groups=8,
        )

    def controlnet(self, unet: UNet2DConditionModel) -> Any:
        """A copy of the encoder of the UNet."""
        return copied(unet, (8, 16, 24))

    def scheduler(self) -> DDIMScheduler:
        """Linear betas over 500 steps, velocity."""
        return DDIMScheduler(
            num_train_timesteps=500,
            beta_start=0.0002,
            beta_end=0.04,
            beta_schedule="linear",
            clip_sample=False,
            set_alpha_to_one=True,
            steps_offset=1,
            prediction_type="v_prediction",
        )


KIT = Landscapes()
