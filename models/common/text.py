"""Tokenizers and text encoders of a handful of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from common.scenes import World

PAD, START, UNKNOWN, END = "<|pad|>", "<|startoftext|>", "<|unknown|>", "<|endoftext|>"
SPECIAL = (PAD, START, UNKNOWN, END)


def tokenizer(words: Sequence[str], length: int, pad: str = PAD) -> Tokenizer:
    """A token a word, between a start and an end token, padded to a fixed length."""
    ids = {word: index for index, word in enumerate((*SPECIAL, *words))}
    tokens = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokens.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    ends = [(START, ids[START]), (END, ids[END])]
    tokens.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    tokens.enable_padding(length=length, pad_id=ids[pad], pad_token=pad)
    tokens.enable_truncation(length)
    return tokens


def encoder(
    words: Sequence[str],
    length: int,
    width: int,
    layers: int = 3,
    act: str = "quick_gelu",
    pooled: int | None = None,
) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Causal layers: a noun sees the adjectives before it. With a projection where ``pooled``."""
    config = CLIPTextConfig(
        vocab_size=len(SPECIAL) + len(words),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=length,
        hidden_act=act,
        pad_token_id=SPECIAL.index(PAD),
        bos_token_id=SPECIAL.index(START),
        eos_token_id=SPECIAL.index(END),
        projection_dim=pooled or width,
    )
    return CLIPTextModelWithProjection(config) if pooled else CLIPTextModel(config)


def token_ids(tokenizers: Sequence[Tokenizer], prompts: list[str]) -> list[torch.Tensor]:
    """The tokens of prompts, ``int64 [n, length]`` for each tokenizer."""
    return [torch.tensor([e.ids for e in one.encode_batch(prompts)]) for one in tokenizers]


def encode(encoders: Sequence[Any], ids: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the UNet is told: states of all tokens, and with two encoders a summary.

    Two encoders give their last but one states side by side, as in SDXL.
    """
    if len(encoders) == 1:
        return encoders[0](ids[0]).last_hidden_state, None
    results = [one(tokens, output_hidden_states=True) for one, tokens in zip(encoders, ids, strict=True)]
    states = torch.cat([result.hidden_states[-2] for result in results], -1)
    return states, results[-1].text_embeds


class Reader(nn.Module):
    """Text encoders with heads that say what each named thing is.

    So the token of a noun carries its own colour and texture before any picture is drawn.
    """

    def __init__(self, encoders: Sequence[Any], words: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        width = sum(one.config.hidden_size for one in encoders)
        self.heads = nn.Linear(width, words)
        self.summary = nn.Linear(encoders[-1].config.projection_dim, words) if len(encoders) > 1 else None

    def forward(self, ids: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A multi-label score of every word for every token, and for the whole prompt."""
        states, pooled = encode(list(self.encoders), ids)
        return self.heads(states), None if self.summary is None else self.summary(pooled)


def lessons(world: World, seed: int, count: int) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Prompts, the place of a named thing of each row (row, token), and the words of its phrase."""
    scenes = world.scenes(seed, count)
    places, targets = [], []
    for row, scene in enumerate(scenes):
        for region in scene.regions:
            first, last = region.phrase
            target = torch.zeros(len(world.words))
            for word in scene.words[first : last + 1]:
                target[world.words.index(word)] = 1.0
            places.append((row, last + 1))
            targets.append(target)
    return [scene.prompt for scene in scenes], torch.tensor(places), torch.stack(targets)
