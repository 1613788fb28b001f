"""Make the pipeline of a finished training: a diffusers folder, and the ONNX pipeline from it.

python -m common.pipeline outlines --training DIR --checkpoint DIFFUSERS_DIR --out PIPELINE
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

import export as exporter
from architectures import Options
from common import train
from common.kit import Kit
from common.vae import Pixels, normalise
from signatures import Port

TEXT_AXES = {0: "batch", 1: "sequence"}


class TextGraph(nn.Module):
    """A text encoder as a function of token ids."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States of all tokens, and of the last one."""
        result = self.encoder(input_ids)
        return result.last_hidden_state, result.pooler_output


class HiddenGraph(nn.Module):
    """A text encoder of SDXL as a function of token ids."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The summary, then the states of all layers: the last but one are taken."""
        result = self.encoder(input_ids, output_hidden_states=True)
        summary = result.text_embeds if hasattr(result, "text_embeds") else result.pooler_output
        return summary, *result.hidden_states


class DecoderGraph(nn.Module):
    """The decoder of the VAE; callers divide latents by the scaling factor."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        """A picture in ``-1..1``."""
        found = self.vae.decode(latent_sample)
        result: torch.Tensor = found if isinstance(self.vae, Pixels) else found.sample
        return result


def part_names(kit: Kit) -> list[str]:
    """Suffixes of the text encoders and tokenizers."""
    return ["", "_2"][: len(kit.tokenizers())]


def averages(kit: Kit, training: Path) -> dict[str, Any]:
    """The averaged weights of every network of a training."""

    def load(name: str, module: Any) -> Any:
        saved = torch.load(training / f"{name}.pt", weights_only=True)
        module.load_state_dict(saved["average"])
        return module.eval()

    vae = kit.vae()
    if not isinstance(vae, Pixels):
        normalise(load("vae", vae), train.measured_pictures(kit))
    unet = kit.unet()
    both = load("controlnet", nn.ModuleDict({"unet": unet, "controlnet": kit.controlnet(unet)}))
    encoders = load("text", train.reader(kit)).encoders
    texts = {f"text_encoder{name}": one for name, one in zip(part_names(kit), encoders, strict=True)}
    return texts | {"vae": vae, "unet": both["unet"], "controlnet": both["controlnet"]}


def save_checkpoint(kit: Kit, found: dict[str, Any], folder: Path) -> None:
    """Write the networks as a diffusers folder."""
    for name, module in found.items():
        if isinstance(module, Pixels):
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_json(folder / name / "config.json", module.config)
        else:
            module.save_pretrained(folder / name)
    kit.scheduler().save_pretrained(folder / "scheduler")
    for name, tokenizer in zip(part_names(kit), kit.tokenizers(), strict=True):
        (folder / f"tokenizer{name}").mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / f"tokenizer{name}" / "tokenizer.json"))


def export_text(kit: Kit, name: str, encoder: Any, out: Path, options: Options) -> None:
    """Export a text encoder; one of two with all its hidden states."""
    ids = torch.zeros(2, kit.tokens, dtype=torch.int64)
    if len(part_names(kit)) == 1:
        graph: nn.Module = TextGraph(encoder)
        outputs = [Port("last_hidden_state", TEXT_AXES), Port("pooler_output", {0: "batch"})]
    else:
        graph = HiddenGraph(encoder)
        summary = "text_embeds" if name.endswith("_2") else "pooler_output"
        layers = range(encoder.config.num_hidden_layers + 1)
        outputs = [Port(summary, {0: "batch"}), *(Port(f"hidden_states.{i}", TEXT_AXES) for i in layers)]
    exporter.export_graph(graph, [Port("input_ids", TEXT_AXES, ids)], outputs, out / name, options)


def export_decoder(vae: Any, channels: int, out: Path, options: Options) -> None:
    """Export the decoder of the VAE."""
    axes = {0: "batch", 2: "height", 3: "width"}
    exporter.export_graph(
        DecoderGraph(vae),
        [Port("latent_sample", axes, torch.zeros(2, channels, 16, 24))],
        [Port("sample", {0: "batch", 2: "image_height", 3: "image_width"})],
        out / "vae_decoder",
        options,
    )


def export_pipeline(kit: Kit, found: dict[str, Any], checkpoint: Path, out: Path) -> None:
    """Export every network, and copy what is not a network."""
    arch = "sdxl" if len(part_names(kit)) == 2 else "sd15"
    options = Options(arch=arch, checkpoint=checkpoint, opset=17, cell=kit.cell)
    exporter.export(options, out)
    index: dict[str, Any] = {"_class_name": "OnnxStableDiffusionControlNetPipeline"}
    for name in part_names(kit):
        export_text(kit, f"text_encoder{name}", found[f"text_encoder{name}"], out, options)
        shutil.copytree(checkpoint / f"tokenizer{name}", out / f"tokenizer{name}", dirs_exist_ok=True)
        index[f"tokenizer{name}"] = ["tokenizers", "Tokenizer"]
    export_decoder(found["vae"], kit.channels, out, options)
    shutil.copytree(checkpoint / "scheduler", out / "scheduler", dirs_exist_ok=True)
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    for source in found:
        target = "vae_decoder" if source == "vae" else source
        config = json.loads((checkpoint / source / "config.json").read_text())
        config.pop("_name_or_path", None)
        if source == "controlnet" and found["controlnet"].mid_block is None:
            config["mid_block_type"] = None
        write_json(out / target / "config.json", config)
        index[target] = ["diffusers", "OnnxRuntimeModel"]
    write_json(out / "model_index.json", index)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in the way of the libraries that read it."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Assemble and export."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pipeline", help="folder with networks.py")
    parser.add_argument("--training", type=Path, required=True, help="folder that training wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="diffusers folder to write")
    parser.add_argument("--out", type=Path, help="ONNX pipeline to write")
    arguments = parser.parse_args()
    kit = train.named(arguments.pipeline)
    found = averages(kit, arguments.training)
    save_checkpoint(kit, found, arguments.checkpoint)
    if arguments.out:
        export_pipeline(kit, found, arguments.checkpoint, arguments.out)


if __name__ == "__main__":
    main()
