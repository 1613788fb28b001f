"""Text encoders and VAEs: what is around the network, as optimum exports it."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import FrozenDict
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from transformers.modeling_outputs import ModelOutput

from .._errors import HgcError
from ._graph import Graph, config_beside
from ._networks import _config


class _Part(torch.nn.Module):
    """Something with one or two graphs and no weights of its own."""

    config: FrozenDict

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    @property
    def dtype(self) -> torch.dtype:
        """Element type of its floating-point values."""
        types = [self.graph.dtype(name) for name in self.graph.inputs]
        return next((t for t in types if t.is_floating_point), torch.float32)

    @property
    def device(self) -> torch.device:
        """Where its values are."""
        return self.graph.device

    def to(self, *_: Any, **__: Any) -> Any:
        """Stays where its execution provider is."""
        return self


class TextEncoder(_Part):
    """A text encoder for `text_encoder=` or `text_encoder_2=` of a pipeline."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.config = FrozenDict(config_beside(graph.model))

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> TextEncoder:
        """Opens `model.onnx` in a folder, or a file; options as of `InferenceSession`."""
        return cls(Graph.load(path, **options))

    @property
    def text_model(self) -> Any:
        """Asked for where a pipeline skips layers of the text encoder."""
        raise HgcError(f"{self.graph.model}: an exported text encoder has no clip_skip")

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        **_: Any,
    ) -> ModelOutput:
        """Its outputs by name; the first is the summary of a second encoder, else the last states."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        names = list(self.graph.inputs)
        feeds = {name: given.get(name) for name in names}
        if "input_ids" not in names:
            feeds = {names[0]: input_ids}
        if "attention_mask" in names and attention_mask is None:
            feeds["attention_mask"] = torch.ones_like(input_ids)
        found = self.graph.run({name: value for name, value in feeds.items() if value is not None})
        # hidden_states.0 to hidden_states.12: sorted by number.
        hidden = sorted(
            (n for n in found if n.startswith("hidden_states")), key=lambda n: int(n.split(".")[-1])
        )
        if output_hidden_states and not hidden:
            raise HgcError(f"{self.graph.model}: it was exported without its hidden states; export it anew")
        first = ["text_embeds", "last_hidden_state"]
        order = [n for n in first if n in found]
        order += [n for n in found if n not in first and n not in hidden]
        outputs = OrderedDict((name, found[name]) for name in order)
        if output_hidden_states:
            outputs["hidden_states"] = tuple(found[name] for name in hidden)
        return ModelOutput(outputs)


class Vae(_Part):
    """Decoder and encoder for `vae=` of a pipeline."""

    def __init__(self, decoder: Graph, encoder: Graph | None) -> None:
        super().__init__(decoder)
        self.encoder = encoder
        # Exported in the type that it runs in.
        self.config = _config(AutoencoderKL, config_beside(decoder.model) | {"force_upcast": False})

    @classmethod
    def load(cls, decoder: str | Path, encoder: str | Path | None = None, **options: Any) -> Vae:
        """Opens the folders, or files, of a decoder and perhaps an encoder."""
        return cls(Graph.load(decoder, **options), Graph.load(encoder, **options) if encoder else None)

    def decode(self, z: torch.Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        """Pictures of latents."""
        del generator
        pictures = self.graph.by_row(z)
        return DecoderOutput(sample=pictures) if return_dict else (pictures,)

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> Any:
        """Latents of pictures, as a distribution."""
        if self.encoder is None:
            raise HgcError(
                f"{self.graph.model.parent.parent} has no vae_encoder, which pictures as inputs need"
            )
        latents = self.encoder.by_row(x)
        channels = self.config.get("latent_channels") or 4
        if latents.shape[1] == 2 * channels:
            found: Any = DiagonalGaussianDistribution(latents)
        else:
            # Older exports have drawn from it already.
            found = SimpleNamespace(sample=lambda *_, **__: latents, mode=lambda: latents, mean=latents)
        return AutoencoderKLOutput(latent_dist=found) if return_dict else (found,)
