"""Make the pipeline of a finished training: a diffusers folder, and the ONNX pipeline from it.

pipeline.py --training DIR --checkpoint DIFFUSERS_DIR --out PIPELINE
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

import networks
import train

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import export as exporter
from architectures import Options
from common.pipeline import DecoderGraph, TextGraph, write_json
from signatures import Port


def averages(training: Path) -> dict[str, Any]:
    """The averaged weights of every network of a training."""

    def load(name: str, module: Any) -> Any:
        saved = torch.load(training / f"{name}.pt", weights_only=True)
        module.load_state_dict(saved["average"])
        return module.eval()

    unet = load("unet", networks.unet())
    vae = load("vae", networks.vae())
    train.normalise(vae)
    return {
        "text_encoder": load("text", train.Reader()).encoder,
        "vae": vae,
        "unet": unet,
        "controlnet": load("controlnet", networks.controlnet(unet)),
    }


def save_checkpoint(training: Path, folder: Path) -> None:
    """Write the networks as a diffusers folder."""
    found = averages(training)
    for name, module in found.items():
        module.save_pretrained(folder / name)
    networks.scheduler().save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    networks.tokenizer().save(str(folder / "tokenizer" / "tokenizer.json"))


def export_pipeline(checkpoint: Path, out: Path) -> None:
    """Export every network, and copy what is not a network."""
    options = Options(checkpoint=checkpoint, opset=17)
    exporter.export(options, out)
    text = TextGraph(CLIPTextModel.from_pretrained(checkpoint / "text_encoder").eval())
    ids = torch.zeros(2, networks.TOKENS, dtype=torch.int64)
    axes = {0: "batch", 1: "sequence"}
    exporter.export_graph(
        text,
        [Port("input_ids", axes, ids)],
        [Port("last_hidden_state", axes), Port("pooler_output", {0: "batch"})],
        out / "text_encoder",
        options,
    )
    vae = AutoencoderKL.from_pretrained(checkpoint / "vae").eval()
    axes = {0: "batch", 2: "height", 3: "width"}
    exporter.export_graph(
        DecoderGraph(vae),
        [Port("latent_sample", axes, torch.zeros(2, 4, 16, 24))],
        [Port("sample", {0: "batch", 2: "image_height", 3: "image_width"})],
        out / "vae_decoder",
        options,
    )
    for name in ("scheduler", "tokenizer"):
        shutil.copytree(checkpoint / name, out / name, dirs_exist_ok=True)
    configs = {
        "vae": "vae_decoder",
        "unet": "unet",
        "controlnet": "controlnet",
        "text_encoder": "text_encoder",
    }
    for source, target in configs.items():
        config = json.loads((checkpoint / source / "config.json").read_text())
        config.pop("_name_or_path", None)
        write_json(out / target / "config.json", config)
    write_json(
        out / "model_index.json",
        {
            "_class_name": "OnnxStableDiffusionControlNetPipeline",
            "controlnet": ["diffusers", "OnnxRuntimeModel"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["diffusers", "OnnxRuntimeModel"],
            "tokenizer": ["tokenizers", "Tokenizer"],
            "unet": ["diffusers", "OnnxRuntimeModel"],
            "vae_decoder": ["diffusers", "OnnxRuntimeModel"],
        },
    )


def main() -> None:
    """Assemble and export."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--training", type=Path, required=True, help="folder that train.py wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="diffusers folder to write")
    parser.add_argument("--out", type=Path, help="ONNX pipeline to write")
    arguments = parser.parse_args()
    save_checkpoint(arguments.training, arguments.checkpoint)
    if arguments.out:
        export_pipeline(arguments.checkpoint, arguments.out)


if __name__ == "__main__":
    main()
