"""A pipeline folder as a pipeline of diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import onnxruntime as ort

from .._accelerate import accelerate
from .._errors import HgcError
from ._graph import read_json
from ._networks import ControlNet, ControlNets, UNet
from ._parts import TextEncoder, Vae

# Words of optimum for what a pipeline is for, with the part of the class's name.
TASKS = {"text-to-image": "", "image-to-image": "Img2Img", "inpainting": "Inpaint"}
# Channels of the latent, the masked latent and the mask.
_INPAINTING = 9
_FLAGS = ("requires_aesthetics_score", "force_zeros_for_empty_prompt", "requires_safety_checker")


def load(
    folder: str | Path,
    task: str | None = None,
    *,
    pipeline: type | None = None,
    controlnet: str | Path | Sequence[str | Path] | None = None,
    providers: Sequence[Any] | None = None,
    session_options: ort.SessionOptions | None = None,
    **components: Any,
) -> Any:
    """A diffusers pipeline over the models of a folder, compiled or not.

    `task` is "text-to-image", "image-to-image" or "inpainting" (found out for UNets that take a mask);
    `pipeline` any class of diffusers in its place. ControlNets are those of the folder, or of the folders in
    `controlnet`. Other components (`scheduler`, `vae`, `text_encoder`, `tokenizer`, ...) are taken where they are
    given, else read from the folder.
    """
    root = Path(folder)
    if not (root / "unet").is_dir():
        raise HgcError(f"{root} is no pipeline folder: there is no {root / 'unet'}")
    options = {"providers": providers, "sess_options": session_options}
    options = {name: value for name, value in options.items() if value is not None}
    unet = components.pop("unet", None) or UNet.load(root / "unet", **options)
    nets = _controlnets(root, unet, controlnet, options)
    built = pipeline or _class(root, unet, task, bool(nets))
    wanted = inspect.signature(built).parameters
    given: dict[str, Any] = {"unet": unet, **components}
    if nets:
        given["controlnet"] = nets[0] if len(nets) == 1 else ControlNets(nets)
    unknown = [name for name in components if name not in wanted]
    if unknown:
        raise HgcError(f"{built.__name__} has no component {unknown[0]!r}; it has {', '.join(wanted)}")
    index = read_json(root / "model_index.json")
    for name, parameter in wanted.items():
        if name in given:
            continue
        if name in _FLAGS and name in index:
            given[name] = index[name]
        elif name in ("safety_checker", "feature_extractor", "image_encoder"):
            given[name] = None
        elif name == "requires_safety_checker":
            given[name] = False
        elif parameter.default is parameter.empty or (root / name).is_dir():
            given[name] = _component(root, name, options)
    # Without a checker there is nothing to require.
    if "requires_safety_checker" in given and given.get("safety_checker") is None:
        given["requires_safety_checker"] = False
    pipe = built(**given)
    compiled = any(part.session.is_compiled for part in (unet, *nets) if hasattr(part, "session"))
    return accelerate(pipe) if compiled else pipe


def _controlnets(
    root: Path, unet: Any, given: str | Path | Sequence[str | Path] | None, options: dict[str, Any]
) -> list[Any]:
    if isinstance(unet, UNet) and unet.merged:
        if given is not None:
            raise HgcError(f"{unet.graph.model} has its ControlNets inside; others have no place in it")
        return list(unet.controlnets())
    if given is None:
        folders = [root / "controlnet"]
        while (further := root / f"controlnet_{len(folders)}").is_dir():
            folders.append(further)
        folders = [path for path in folders if path.is_dir()]
    else:
        folders = [Path(given)] if isinstance(given, (str, Path)) else [Path(path) for path in given]
    return [ControlNet.load(path, **options) for path in folders]


def _class(root: Path, unet: Any, task: str | None, control: bool) -> type:
    """diffusers' class for a task with these networks."""
    if task is None:
        task = "inpainting" if unet.config.in_channels == _INPAINTING else "text-to-image"
    if task not in TASKS:
        raise HgcError(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    xl = "XL" if (root / "text_encoder_2").is_dir() or unet.config.get("addition_embed_type") else ""
    name = f"StableDiffusion{xl}{'ControlNet' if control else ''}{TASKS[task]}Pipeline"
    found: type | None = getattr(diffusers, name, None)
    if found is None:
        raise HgcError(f"diffusers {diffusers.__version__} has no {name}")
    return found


def _component(root: Path, name: str, options: dict[str, Any]) -> Any:
    """A component that the folder has; None where a pipeline may do without it."""
    if name == "vae":
        decoder, encoder = root / "vae_decoder", root / "vae_encoder"
        if not decoder.is_dir():
            raise HgcError(f"{root} has no vae_decoder; give `vae=`, of diffusers or of this package")
        return Vae.load(decoder, encoder if encoder.is_dir() else None, **options)
    folder = root / name
    if name == "scheduler":
        return _scheduler(folder)
    if not folder.is_dir():
        if name in ("text_encoder", "tokenizer") and (root / "text_encoder_2").is_dir():
            # The refiner of XL has the second alone.
            return None
        raise HgcError(f"{root} has no {name}; give `{name}=`")
    return _tokenizer(folder) if name.startswith("tokenizer") else TextEncoder.load(folder, **options)


def _scheduler(folder: Path) -> Any:
    config = read_json(folder / "scheduler_config.json")
    kind = getattr(diffusers, str(config.get("_class_name")), None)
    if kind is None:
        raise HgcError(f"{folder}/scheduler_config.json names no scheduler of diffusers; give `scheduler=`")
    return kind.from_config(config)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer, CLIPTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer_config.json").is_file():
        return AutoTokenizer.from_pretrained(folder)
    if (folder / "vocab.json").is_file():
        return CLIPTokenizer.from_pretrained(folder)
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise HgcError(f"{folder} has no tokenizer: neither vocab.json nor tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
    padding = tokenizer.backend_tokenizer.padding
    if padding:
        # As the file says; transformers would take neither of it.
        tokenizer.pad_token = padding["pad_token"]
        tokenizer.model_max_length = padding["length"] or tokenizer.model_max_length
    return tokenizer
