"""UNets and ControlNets: diffusers' own classes without their weights, over a session."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.configuration_utils import FrozenDict
from diffusers.models.controlnets.controlnet import ControlNetOutput
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from typing_extensions import Self

from .._errors import HgcError
from ._graph import Graph, config_beside

# Channels of the time ids of XL: six numbers, each as so many sines.
_TIME_IDS = 6


def _config(of: type, given: dict[str, Any]) -> FrozenDict:
    """A config with all that `of` has; what the folder says goes first."""
    parameters = inspect.signature(of).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return FrozenDict(defaults | given)


Network = TypeVar("Network", bound="_OnGraph")


class _OnGraph:
    """What UNet and ControlNet share: a graph, and no weights of their own."""

    graph: Graph

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> Self:
        """Opens `model.onnx` in a folder, or a file; options as of `InferenceSession`."""
        return cls(Graph.load(path, **options))  # type: ignore[call-arg]

    def _take(self, graph: Graph, of: type) -> None:
        torch.nn.Module.__init__(self)
        self.graph = graph
        given = config_beside(graph.model)
        latent = graph.named("latent")
        channels = graph.inputs[latent[0]].shape[1] if latent else None
        if isinstance(channels, int):
            given.setdefault("in_channels", channels)
        self._internal_dict = _config(of, given)

    @property
    def session(self) -> Any:
        """The session, with its `stats`."""
        return self.graph.session

    @session.setter
    def session(self, session: Any) -> None:
        self.graph.session = session

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the latents."""
        return self.graph.dtype(self.graph.named("latent")[0])

    @property
    def device(self) -> torch.device:
        """Where its values are."""
        return self.graph.device

    def to(self, *_: Any, **__: Any) -> Any:
        """Stays where its execution provider is."""
        return self

    def _reset_stateful_cache(self, *_: Any, **__: Any) -> None:
        # diffusers calls this after each picture, and after an interruption.
        self.session.reset()

    def _common(
        self,
        sample: torch.Tensor,
        timestep: Any,
        text: torch.Tensor,
        guidance: torch.Tensor | None,
        added: dict[str, torch.Tensor] | None,
    ) -> dict[str, torch.Tensor]:
        """Feeds of what UNet and ControlNet both have."""
        graph, added = self.graph, added or {}
        by_role = {
            "latent": sample,
            "text": text,
            "guidance embedding": guidance,
            "pooled text": added.get("text_embeds"),
            "time ids": added.get("time_ids"),
        }
        given = {role: value for role, value in by_role.items() if value is not None}
        feeds = {name: value for role, value in given.items() for name in graph.named(role)}
        for name in graph.named("timestep"):
            feeds[name] = graph.timestep(name, timestep, sample.shape[0])
        return feeds


def _refuse(who: str, **values: Any) -> None:
    for name, value in values.items():
        if value is not None and not (isinstance(value, dict) and not value):
            raise HgcError(f"{who}: an exported model has no {name}")


class UNet(_OnGraph, UNet2DConditionModel):
    """A UNet for `unet=` of a pipeline. Of a merged graph, which has the ControlNets inside, `controlnets()`
    are those of the pipeline."""

    def __init__(self, graph: Graph) -> None:
        self._take(graph, UNet2DConditionModel)
        self._controls: dict[int, tuple[torch.Tensor, float]] = {}

    @property
    def merged(self) -> int:
        """How many ControlNets are inside."""
        names = self.graph.named("control image")
        if not names:
            return 0
        count = self.graph.inputs[names[0]].shape[0] if self.graph.rank(names[0]) == 5 else 1
        return count if isinstance(count, int) else 1

    def controlnets(self) -> list[ControlNet]:
        """Stand-ins for the ControlNets inside: they pass on their image and scale."""
        return [_Inside(self.graph, self._controls, number) for number in range(self.merged)]

    @property
    def add_embedding(self) -> Any:
        """XL pipelines ask it for the size of what is added to the timestep."""
        size = self.config.get("projection_class_embeddings_input_dim")
        pooled = self.graph.named("pooled text")
        if size is None and pooled:
            sines = self.config.get("addition_time_embed_dim") or 256
            size = self.graph.inputs[pooled[0]].shape[1] + _TIME_IDS * sines
        return SimpleNamespace(linear_1=SimpleNamespace(in_features=size))

    def forward(
        self,
        sample: torch.Tensor,
        timestep: Any,
        encoder_hidden_states: torch.Tensor,
        class_labels: Any = None,
        timestep_cond: torch.Tensor | None = None,
        attention_mask: Any = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        added_cond_kwargs: dict[str, torch.Tensor] | None = None,
        down_block_additional_residuals: Any = None,
        mid_block_additional_residual: Any = None,
        down_intrablock_additional_residuals: Any = None,
        encoder_attention_mask: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """The predicted noise."""
        who = str(self.graph.model)
        _refuse(
            who,
            class_labels=class_labels,
            attention_mask=attention_mask,
            cross_attention_kwargs=cross_attention_kwargs,
            down_intrablock_additional_residuals=down_intrablock_additional_residuals,
            encoder_attention_mask=encoder_attention_mask,
        )
        feeds = self._common(sample, timestep, encoder_hidden_states, timestep_cond, added_cond_kwargs)
        residuals = [*(down_block_additional_residuals or ()), mid_block_additional_residual]
        taken = self.graph.named("residual")
        if self.merged:
            feeds |= self._control()
        elif len(taken) != (given := sum(r is not None for r in residuals)):
            raise HgcError(
                f"{who} takes {len(taken)} residuals of a ControlNet, and the pipeline gives {given}"
            )
        feeds |= {name: value for name, value in zip(taken, residuals, strict=False) if value is not None}
        noise = self.graph.first(feeds)
        return UNet2DConditionOutput(sample=noise) if return_dict else (noise,)

    def _control(self) -> dict[str, torch.Tensor]:
        """Images and scales of the ControlNets inside."""
        count = self.merged
        if sorted(self._controls) != list(range(count)):
            raise HgcError(
                f"{self.graph.model} has {count} ControlNets inside: give the pipeline "
                "`controlnet=ControlNets(unet.controlnets())`, or the one"
            )
        feeds = {}
        for name in self.graph.named("control image"):
            images = [self._controls[n][0] for n in range(count)]
            feeds[name] = torch.stack(images) if self.graph.rank(name) == 5 else images[0]
        for name in self.graph.named("conditioning scale"):
            shape = [count if axis == 0 else 1 for axis in range(self.graph.rank(name))]
            feeds[name] = torch.tensor([self._controls[n][1] for n in range(count)]).reshape(shape)
        return feeds


class ControlNet(_OnGraph, ControlNetModel):
    """A ControlNet for `controlnet=` of a pipeline."""

    def __init__(self, graph: Graph) -> None:
        self._take(graph, ControlNetModel)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: Any,
        encoder_hidden_states: torch.Tensor,
        controlnet_cond: torch.Tensor,
        conditioning_scale: float = 1.0,
        class_labels: Any = None,
        timestep_cond: torch.Tensor | None = None,
        attention_mask: Any = None,
        added_cond_kwargs: dict[str, torch.Tensor] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        guess_mode: bool = False,
        return_dict: bool = True,
    ) -> Any:
        """The residuals."""
        who = str(self.graph.model)
        _refuse(
            who,
            class_labels=class_labels,
            attention_mask=attention_mask,
            cross_attention_kwargs=cross_attention_kwargs,
        )
        sidecar = self.session.sidecar
        if guess_mode and sidecar is not None and sidecar.halves:
            raise HgcError(
                f"{who}: guess_mode gives a ControlNet the prompted rows alone, and this one was compiled for "
                "prompted and unprompted rows; compile the pipeline with --control-rows prompted"
            )
        scale = float(conditioning_scale)
        feeds = self._common(sample, timestep, encoder_hidden_states, timestep_cond, added_cond_kwargs)
        feeds |= {name: controlnet_cond for name in self.graph.named("control image")}
        scales = self.graph.named("conditioning scale")
        for name in scales:
            feeds[name] = torch.tensor(scale).reshape([1] * self.graph.rank(name))
        residuals = list(self.graph.run(feeds).values())
        factors = torch.logspace(-1, 0, len(residuals)).tolist() if guess_mode else [1.0] * len(residuals)
        outside = 1.0 if scales else scale
        residuals = [
            r if f * outside == 1.0 else r * (f * outside) for r, f in zip(residuals, factors, strict=True)
        ]
        down, mid = residuals[:-1], residuals[-1]
        if return_dict:
            return ControlNetOutput(down_block_res_samples=tuple(down), mid_block_res_sample=mid)
        return down, mid


class _Inside(ControlNet):
    """One ControlNet of a merged graph: it only notes what the UNet's graph is to be given."""

    def __init__(self, graph: Graph, controls: dict[int, tuple[torch.Tensor, float]], number: int) -> None:
        super().__init__(graph)
        self._controls = controls
        self._number = number

    def forward(  # type: ignore[override]
        self,
        sample: torch.Tensor,
        *_: Any,
        controlnet_cond: torch.Tensor,
        conditioning_scale: float = 1.0,
        guess_mode: bool = False,
        **__: Any,
    ) -> Any:
        """No residuals: they stay inside."""
        if guess_mode:
            raise HgcError(f"{self.graph.model} has its ControlNets inside, which leaves no guess_mode")
        self._controls[self._number] = (controlnet_cond, float(conditioning_scale))
        return [], torch.zeros((), dtype=sample.dtype, device=sample.device)


class ControlNets(MultiControlNetModel):
    """Several ControlNets for `controlnet=` of a pipeline."""

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the first."""
        first: torch.dtype = self.nets[0].dtype
        return first

    @property
    def device(self) -> torch.device:
        """Where the values of the first are."""
        first: torch.device = self.nets[0].device
        return first

    def to(self, *_: Any, **__: Any) -> Any:
        """Stay where their execution providers are."""
        return self
