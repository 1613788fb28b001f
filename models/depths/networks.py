"""The networks, in the anatomy of SDXL: two text encoders, a summary, sizes, uneven attention."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer

from common import text
from common.kit import Kit, copied
from depths.scenes import WORLD

WIDTHS = (32, 48)
POOLED = 48
SIZE_WIDTH = 16


class Depths(Kit):
    """Four times smaller latents of four channels, noise prediction."""

    world = WORLD
    tokens = 24
    cell = 4
    channels = 4
    guidance = 4.0
    steps: ClassVar = {"text": 600, "vae": 1500, "unet": 400, "controlnet": 2600}

    def tokenizers(self) -> list[Tokenizer]:
        """Two that pad differently."""
        return [text.tokenizer(WORLD.words, self.tokens, pad) for pad in (text.END, text.PAD)]

    def encoders(self) -> list[Any]:
        """Two; the second one sums the prompt up."""
        return [
            text.encoder(WORLD.words, self.tokens, WIDTHS[0]),
            text.encoder(WORLD.words, self.tokens, WIDTHS[1], act="gelu", pooled=POOLED),
        ]

    def vae(self) -> AutoencoderKL:
        """Four times smaller, four channels."""
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 32, 48),
            layers_per_block=1,
            latent_channels=self.channels,
            norm_num_groups=8,
            sample_size=WORLD.height,
            mid_block_add_attention=False,
        )

    def unet(self) -> UNet2DConditionModel:
        """Transformers of depth none, one and two; linear projections."""
        return UNet2DConditionModel(
            sample_size=WORLD.height // self.cell,
            down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
            block_out_channels=(24, 40, 48),
            layers_per_block=2,
            transformer_layers_per_block=(1, 1, 2),
            cross_attention_dim=sum(WIDTHS),
            attention_head_dim=(2, 2, 3),  # the number of heads, despite the name
            norm_num_groups=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=SIZE_WIDTH,
            projection_class_embeddings_input_dim=POOLED + 6 * SIZE_WIDTH,
        )

    def controlnet(self, unet: UNet2DConditionModel) -> Any:
        """A copy of the encoder of the UNet."""
        return copied(unet, (8, 16, 24))

    def scheduler(self) -> DDIMScheduler:
        """Scaled-linear betas and noise prediction, as SDXL."""
        return DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="epsilon",
        )


KIT = Depths()
