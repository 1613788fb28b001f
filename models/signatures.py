"""The graphs that are exported: their functions, and their inputs and outputs with example values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn

from architectures import Options, residual_shapes


@dataclasses.dataclass(frozen=True)
class Port:
    """One graph input or output: its name, its dynamic axes and, for an input, an example."""

    name: str
    axes: dict[int, str]
    example: torch.Tensor | None = None


class UNetGraph(UNet2DConditionModel):
    """A UNet as a function of positional tensors, named by ``input_names``."""

    input_names: list[str]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Predict the noise; residuals are the inputs not named otherwise, the mid block's last."""
        named = dict(zip(self.input_names, inputs, strict=True))
        sample, timestep = named.pop("sample"), named.pop("timestep")
        hidden = named.pop("encoder_hidden_states")
        timestep_cond = named.pop("timestep_cond", None)
        added = {name: named.pop(name) for name in ("text_embeds", "time_ids") if name in named}
        residuals = list(named.values())
        prediction: torch.Tensor = super().forward(  # type: ignore[misc]
            sample,
            timestep,
            hidden,
            timestep_cond=timestep_cond,
            added_cond_kwargs=added or None,
            down_block_additional_residuals=tuple(residuals[:-1]) if residuals else None,
            mid_block_additional_residual=residuals[-1] if residuals else None,
            return_dict=False,
        )[0]
        return prediction


class ControlNetGraph(ControlNetModel):
    """A ControlNet as a function of positional tensors, named by ``input_names``."""

    input_names: list[str]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the residuals, the mid block's last."""
        named = dict(zip(self.input_names, inputs, strict=True))
        added = {name: named.pop(name) for name in ("text_embeds", "time_ids") if name in named}
        added_cond_kwargs = added or None
        down, mid = super().forward(  # type: ignore[misc]
            **named, added_cond_kwargs=added_cond_kwargs, return_dict=False
        )
        return *down, mid


class MergedGraph(nn.Module):
    """A UNet with its ControlNets; conditions and scales are stacked along a first dimension."""

    def __init__(self, unet: Any, controlnets: Sequence[Any], names: Sequence[str]) -> None:
        super().__init__()
        self.unet: Any = unet
        self.controlnets: Any = nn.ModuleList(controlnets)
        self.input_names = list(names)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Sum the residuals of the ControlNets and predict the noise."""
        named = dict(zip(self.input_names, inputs, strict=True))
        sample, timestep = named.pop("sample"), named.pop("timestep")
        hidden = named.pop("encoder_hidden_states")
        conditions, scales = named.pop("controlnet_conds"), named.pop("conditioning_scales")
        total: list[torch.Tensor] = []
        for condition, scale, controlnet in zip(conditions, scales, self.controlnets, strict=True):
            # An inpainting UNet sees the mask as well, its ControlNet only the latents.
            channels = controlnet.config.in_channels
            down, mid = controlnet(
                sample if channels == self.unet.config.in_channels else sample[:, :channels],
                timestep,
                hidden,
                controlnet_cond=condition,
                conditioning_scale=scale,
                added_cond_kwargs=named or None,
                return_dict=False,
            )
            found = [*down, mid]
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        prediction: torch.Tensor = self.unet(
            sample,
            timestep,
            hidden,
            added_cond_kwargs=named or None,
            down_block_additional_residuals=tuple(total[:-1]),
            mid_block_additional_residual=total[-1],
            return_dict=False,
        )[0]
        return prediction


class Signature:
    """Inputs and outputs of the graphs of one pipeline, at one example size."""

    SEQUENCE = 77

    def __init__(self, options: Options, config: Any, size: tuple[int, int, int] = (2, 16, 24)) -> None:
        """``size`` is the batch, height and width of the latents."""
        self.options = options
        self.config = config
        self.batch, self.height, self.width = size
        self.generator = torch.Generator().manual_seed(options.seed)

    def port(self, name: str, shape: Sequence[int], axes: dict[int, str]) -> Port:
        """A floating-point input with a random example."""
        example = torch.randn(*shape, generator=self.generator).to(self.options.torch_dtype)
        return Port(name, axes, example)

    def common(self, in_channels: int) -> list[Port]:
        """The inputs that UNet and ControlNet share."""
        batch = {0: "batch"}
        latent = {0: "batch", 2: "height", 3: "width"}
        shape = (self.batch, in_channels, self.height, self.width)
        hidden = (self.batch, self.SEQUENCE, self.config["cross_attention_dim"])
        return [
            self.port("sample", shape, latent),
            self.timestep(),
            self.port("encoder_hidden_states", hidden, batch | {1: "sequence"}),
        ]

    def timestep(self) -> Port:
        """The timestep: an integer scalar, or a float for the whole batch or for each row."""
        if self.options.timestep == "scalar":
            return Port("timestep", {}, torch.tensor(500, dtype=torch.int64))
        rows = 1 if self.options.timestep == "vector" else self.batch
        axes = {} if self.options.timestep == "vector" else {0: "batch"}
        return Port("timestep", axes, torch.full((rows,), 500.0, dtype=self.options.torch_dtype))

    def added(self) -> list[Port]:
        """The size and crop conditions of SDXL."""
        if self.config.get("addition_embed_type") != "text_time":
            return []
        pooled = self.config["projection_class_embeddings_input_dim"]
        pooled -= 6 * self.config["addition_time_embed_dim"]
        sizes = torch.tensor([[128.0, 192.0, 0.0, 0.0, 128.0, 192.0]] * self.batch)
        return [
            self.port("text_embeds", (self.batch, pooled), {0: "batch"}),
            Port("time_ids", {0: "batch"}, sizes.to(self.options.torch_dtype)),
        ]

    def residuals(self, template: str, mid: str) -> list[Port]:
        """One port for each residual."""
        ports = []
        shapes = residual_shapes(self.config)
        for index, (channels, factor) in enumerate(shapes):
            name = mid if index + 1 == len(shapes) else template.format(i=index)
            suffix = "" if factor == 1 else f"_{factor}"
            axes = {0: "batch", 2: "height" + suffix, 3: "width" + suffix}
            shape = (self.batch, channels, self.height // factor, self.width // factor)
            ports.append(self.port(name, shape, axes))
        return ports

    def unet(self) -> list[Port]:
        """The inputs of a UNet."""
        ports = self.common(self.config["in_channels"])
        condition = self.config.get("time_cond_proj_dim")
        if condition is not None:
            ports.append(self.port("timestep_cond", (self.batch, condition), {0: "batch"}))
        ports += self.added()
        if self.options.controlnets:
            ports += self.residuals(self.options.residual_names, "mid_block_additional_residual")
        return ports

    def controlnet(self) -> list[Port]:
        """The inputs of a ControlNet."""
        cell = self.options.cell
        shape = (self.batch, 3, cell * self.height, cell * self.width)
        axes = {0: "batch", 2: "image_height", 3: "image_width"}
        scale = torch.tensor(1.0, dtype=self.options.torch_dtype)
        return [
            # Inpainting pipelines give their ControlNet the channels that are predicted.
            *self.common(self.config["out_channels"]),
            self.port("controlnet_cond", shape, axes),
            Port("conditioning_scale", {}, scale),
            *self.added(),
        ]

    def merged(self) -> list[Port]:
        """The inputs of a merged graph."""
        count = self.options.controlnets
        cell = self.options.cell
        shape = (count, self.batch, 3, cell * self.height, cell * self.width)
        axes = {1: "batch", 3: "image_height", 4: "image_width"}
        scales = torch.ones(count, 1, dtype=self.options.torch_dtype)
        return [
            *self.common(self.config["in_channels"]),
            self.port("controlnet_conds", shape, axes),
            Port("conditioning_scales", {}, scales),
            *self.added(),
        ]

    def noise(self) -> list[Port]:
        """The output of a UNet."""
        return [Port("out_sample", {0: "batch", 2: "height", 3: "width"})]

    def residual_outputs(self) -> list[Port]:
        """The outputs of a ControlNet."""
        return self.residuals("down_block_res_samples_{i}", "mid_block_res_sample")
