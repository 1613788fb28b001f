"""The networks of the pipeline, in the anatomy of SD1.5 at a tenth of its width."""

from __future__ import annotations

from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel

from scenes import COLOUR_NAMES, KINDS, SIZE, TEXTURES

TOKENS = 24
TEXT_WIDTH = 64
PAD, START, END, UNKNOWN = "<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|unknown|>"
WORDS = [PAD, START, END, UNKNOWN, "a", "and", "on", ",", *TEXTURES, *COLOUR_NAMES, *KINDS]


def tokenizer() -> Tokenizer:
    """A token a word, between a start and an end token, padded to a fixed length."""
    tokens = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token=UNKNOWN))
    tokens.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    ends = [(START, WORDS.index(START)), (END, WORDS.index(END))]
    tokens.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    tokens.enable_padding(length=TOKENS, pad_id=0, pad_token=PAD)
    tokens.enable_truncation(TOKENS)
    return tokens


def text_encoder() -> CLIPTextModel:
    """Three causal layers: a noun sees the adjectives before it."""
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        hidden_act="quick_gelu",
        pad_token_id=WORDS.index(PAD),
        bos_token_id=WORDS.index(START),
        eos_token_id=WORDS.index(END),
    )
    return CLIPTextModel(config)


def vae() -> AutoencoderKL:
    """Eight times smaller, four channels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


# Narrower than SD1.5's last level, where most weights and few MACs are: the repository holds them.
CHANNELS = (32, 64, 128, 64)


def unet() -> UNet2DConditionModel:
    """The levels of SD1.5: cross-attention at all but the last."""
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=CHANNELS,
        layers_per_block=2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 4, 4, 4),  # the number of heads, despite the name
        norm_num_groups=8,
    )


def controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A copy of the encoder of the UNet, with zero convolutions."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 16, 32))


def scheduler() -> DDIMScheduler:
    """Scaled-linear betas and noise prediction, as SD1.5."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
