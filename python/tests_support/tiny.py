"""Text parts of tiny pipelines with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import CLIPTextConfig, CLIPTokenizer


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer of letters, whose files go to a folder that is there."""
    letters = [f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    vocabulary = {word: n for n, word in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = [str(folder / "vocab.json"), str(folder / "merges.txt")]
    return CLIPTokenizer(*files, pad_token="<|endoftext|>", model_max_length=77)


def text_config(width: int, **more: Any) -> CLIPTextConfig:
    """A text encoder for that tokenizer."""
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=100,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **more,
    )
