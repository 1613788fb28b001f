"""Stock pipelines of diffusers over exported models: what must be equal is equal, bit by bit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from conftest import ROOT, STEPS

import hgc_onnx
from hgc_onnx import HgcError
from hgc_onnx.diffusers import ControlNet, UNet, load

SCHEDULERS = ["DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler", "HeunDiscreteScheduler"]
SCHEDULERS += ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerAncestralDiscreteScheduler"]
SIZE = 64
PROMPT = "a checkered red circle on plain blue"

Folder = Callable[[str], Path]
Compiled = Callable[..., Path]
Opened = Callable[..., Any]


def picture(seed: int = 0, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random((1, size, size, 3)).astype(np.float32)


def draw(pipe: Any, steps: int = STEPS, **options: Any) -> np.ndarray:
    options = {"prompt": PROMPT, "height": SIZE, "width": SIZE} | options
    options = {name: value for name, value in options.items() if value is not None}
    generator = torch.Generator().manual_seed(0)
    done = pipe(num_inference_steps=steps, output_type="np", generator=generator, **options)
    return np.asarray(done.images)


def controlled(**options: Any) -> dict[str, Any]:
    return {"image": torch.from_numpy(picture()).permute(0, 3, 1, 2)} | options


@pytest.mark.parametrize("form", ["gated", "variants"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_control_with_every_sampler(
    folder: Folder, compiled: Compiled, opened: Opened, scheduler: str, form: str
) -> None:
    original = opened("shapes", folder("shapes"))
    dynamic = True if form == "variants" else None
    out = compiled("shapes", policy="lossless", form=form, dynamic=dynamic)
    ours = opened("shapes", out)
    assert type(ours) is diffusers.StableDiffusionControlNetPipeline
    for pipe in (original, ours):
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    for steps in (STEPS, 5):
        assert np.array_equal(draw(original, steps, **controlled()), draw(ours, steps, **controlled()))
    for part in (ours.unet, ours.controlnet):
        stats = part.session.stats
        assert stats.generations == 2 and not stats.forced, stats
        assert stats.evaluations["reuse"] >= STEPS + 5 - 2, stats


@pytest.mark.parametrize(
    "options",
    [
        {"num_images_per_prompt": 2},
        {"negative_prompt": "plain green"},
        {"height": 128, "width": 64},
        {"guidance_scale": 1.0},
        {"control_guidance_end": 0.5},
        {"controlnet_conditioning_scale": 0.3},
        {"guess_mode": True},
    ],
)
def test_what_changes_between_pictures(
    folder: Folder, compiled: Compiled, opened: Opened, options: dict[str, Any]
) -> None:
    original, ours = (
        opened("shapes", folder("shapes")),
        opened("shapes", compiled("shapes", policy="lossless")),
    )
    if "height" in options:
        control = torch.nn.functional.interpolate(
            controlled()["image"], (options["height"], options["width"])
        )
        options = options | {"image": control}
    draw(ours, **controlled())
    assert np.array_equal(draw(original, **controlled(**options)), draw(ours, **controlled(**options)))
    assert np.array_equal(draw(original, **controlled()), draw(ours, **controlled()))


def test_a_scale_that_changes_refreshes_both_models(compiled: Compiled, opened: Opened) -> None:
    ours = opened("shapes", compiled("shapes", policy="deepcache:interval=8"))
    draw(ours, **controlled(control_guidance_end=0.5))
    unet, control = ours.unet.session.stats, ours.controlnet.session.stats
    assert control.forced == {"a watched input changed": 1}
    assert unet.forced == {"another model of the pipeline refreshed": 1}
    draw(ours, **controlled())
    assert unet.forced.total() == control.forced.total() == 1


def test_the_forms_draw_alike(compiled: Compiled, opened: Opened) -> None:
    for options in ({}, {"target": "cpu"}):
        gated = opened("shapes", compiled("shapes", **options))
        variants = opened("shapes", compiled("shapes", form="variants", dynamic=True, **options))
        for steps in (STEPS, 12):
            assert np.array_equal(draw(gated, steps, **controlled()), draw(variants, steps, **controlled()))
        assert gated.unet.session.stats == variants.unet.session.stats
        first = gated.unet.session.sidecar.kinds[0].name
        assert gated.unet.session.stats.evaluations[first] == 2


@pytest.mark.parametrize(
    "name", ["sd15-two-controlnets", "sd15-merged", "sd21-ts17", "sdxl-ts17", "sd15-fp16", "sd15-dynamo18"]
)
def test_other_networks_with_control(folder: Folder, compiled: Compiled, opened: Opened, name: str) -> None:
    size = 128
    kept = {"height": None, "width": None, "num_images_per_prompt": 2}
    image = torch.from_numpy(picture(1, size)).permute(0, 3, 1, 2)
    several = name == "sd15-two-controlnets"
    options = kept | {"image": [image, 1 - image] if several else image}
    if several:
        options["controlnet_conditioning_scale"] = [0.5, 0.8]
    original = opened(name, folder(name))
    ours = opened(name, compiled(name, policy="lossless"))
    expected = draw(original, **options)
    assert expected.shape == (2, size, size, 3)
    # The control is looked at.
    other = options | {"image": [image, image] if several else 1 - image}
    assert not np.array_equal(expected, draw(original, **other))
    # The provider computes half precision in single precision, and rounds elsewhere where a graph is cut.
    allowed = 1e-2 if name == "sd15-fp16" else 0.0
    assert np.abs(expected - draw(ours, **options)).max() <= allowed
    assert ours.unet.session.stats.evaluations["reuse"] == STEPS - 1


@pytest.mark.parametrize("name", ["sd15-unet-only", "sd15-lcm"])
def test_text_alone(folder: Folder, compiled: Compiled, opened: Opened, name: str) -> None:
    lcm = name == "sd15-lcm"
    options = controlled() if lcm else {}
    original, ours = opened(name, folder(name)), opened(name, compiled(name, policy="lossless"))
    for pipe in (original, ours) if lcm else ():
        pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    assert np.array_equal(draw(original, **options), draw(ours, **options))


def test_a_part_of_a_generation(folder: Folder, compiled: Compiled, opened: Opened) -> None:
    name, task = "sd15-unet-only", "image-to-image"
    original = opened(name, folder(name), task)
    ours = opened(name, compiled(name, policy="lossless"), task)
    assert type(ours) is diffusers.StableDiffusionImg2ImgPipeline
    for strength in (0.5, 0.9):
        options = {"image": picture(), "strength": strength, "height": None, "width": None}
        assert np.array_equal(draw(original, **options), draw(ours, **options)), strength


def test_inpainting(folder: Folder, compiled: Compiled, opened: Opened) -> None:
    name = "inpaint-ts17"
    original, ours = opened(name, folder(name)), opened(name, compiled(name, policy="lossless"))
    assert type(ours) is diffusers.StableDiffusionControlNetInpaintPipeline
    mask = np.zeros((1, SIZE, SIZE, 1), np.float32)
    mask[:, 16:48, 16:48] = 1
    options = {
        "image": torch.from_numpy(picture()).permute(0, 3, 1, 2),
        "mask_image": torch.from_numpy(mask).permute(0, 3, 1, 2),
        "control_image": torch.from_numpy(picture(1)).permute(0, 3, 1, 2),
    }
    assert np.array_equal(draw(original, **options), draw(ours, **options))


def test_a_pipeline_that_is_there_takes_the_parts(
    folder: Folder, compiled: Compiled, around: Callable[[str], dict[str, Any]]
) -> None:
    out = compiled("sd15-ts17", policy="lossless")
    parts = around("sd15-ts17") | {
        "unet": UNet.load(out / "unet"),
        "controlnet": ControlNet.load(out / "controlnet"),
    }
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = diffusers.StableDiffusionControlNetPipeline(**parts, **none)
    hgc_onnx.accelerate(pipe)
    draw(pipe, **controlled())
    assert pipe.unet.session.stats.evaluations["reuse"] == STEPS - 1


def test_a_picture_broken_off_leaves_nothing(folder: Folder, compiled: Compiled, opened: Opened) -> None:
    """Not even where the next begins at a later timestep, with the same prompt."""
    name, task = "sd15-unet-only", "image-to-image"
    original, ours = opened(name, folder(name), task), opened(name, compiled(name, policy="deepcache"), task)
    options = {"image": picture(), "height": None, "width": None}
    expected = draw(ours, **options, strength=0.5)

    def stop(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        if step == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        draw(ours, **options, strength=1.0, callback_on_step_end=stop)
    again = draw(ours, **options, strength=0.5)
    assert np.array_equal(expected, again)
    assert not np.array_equal(draw(original, **options, strength=0.5), again)


def test_an_interrupted_picture_leaves_nothing(folder: Folder, compiled: Compiled, opened: Opened) -> None:
    """`pipe._interrupt`, as user interfaces stop a picture: the pipeline goes on to its end."""
    original, ours = (
        opened("shapes", folder("shapes")),
        opened("shapes", compiled("shapes", policy="lossless")),
    )

    def stop(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        pipe._interrupt = step >= 2
        return {}

    draw(ours, **controlled(callback_on_step_end=stop))
    assert ours.unet.session.stats.evaluations.total() == 3
    assert np.array_equal(draw(original, **controlled()), draw(ours, **controlled()))


def test_forks_in_two_threads(compiled: Compiled, opened: Opened) -> None:
    out = compiled("shapes")
    expected = [draw(opened("shapes", out), **controlled(guidance_scale=g)) for g in (3.0, 6.0)]
    pipes = [opened("shapes", out) for _ in expected]
    first = pipes[0]
    for part in ("unet", "controlnet"):
        getattr(pipes[1], part).session = getattr(first, part).session.fork()
    hgc_onnx.accelerate(pipes[1])
    found: dict[int, np.ndarray] = {}

    def work(number: int, guidance: float) -> None:
        found[number] = draw(pipes[number], **controlled(guidance_scale=guidance))

    threads = [threading.Thread(target=work, args=(n, g)) for n, g in enumerate((3.0, 6.0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, pixels in enumerate(expected):
        assert np.array_equal(found[number], pixels), number
    assert pipes[1].unet.session.stats.generations == first.unet.session.stats.generations == 1


def test_rows_that_have_no_halves_are_told(compiled: Compiled, opened: Opened) -> None:
    ours = opened("shapes", compiled("shapes", target="cpu"))
    assert ours.unet.session.sidecar.halves
    with pytest.raises(HgcError, match="drawn without guidance"):
        draw(ours, **controlled(guidance_scale=1.0, num_images_per_prompt=2))
    with pytest.raises(HgcError, match="guess_mode"):
        draw(ours, **controlled(guess_mode=True))
    draw(ours, **controlled())


def test_what_a_folder_lacks_is_told(
    folder: Folder, compiled: Compiled, around: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(HgcError, match="no pipeline folder"):
        load(tmp_path)
    with pytest.raises(HgcError, match="has no vae_decoder; give `vae=`"):
        load(folder("sd15-ts17"))
    parts = around("sd15-ts17")
    del parts["tokenizer"]
    with pytest.raises(HgcError, match="has no tokenizer; give `tokenizer=`"):
        load(folder("sd15-ts17"), **parts)
    with pytest.raises(HgcError, match="no task 'inpaint'; there are text-to-image"):
        load(folder("shapes"), "inpaint")
    pipe = load(
        folder("sd15-ts17"), pipeline=diffusers.StableDiffusionPipeline, **around("sd15-ts17"), controlnet=[]
    )
    with pytest.raises(HgcError, match="takes 13 residuals of a ControlNet, and the pipeline gives 0"):
        draw(pipe)


def test_the_shipped_pipeline_draws_what_is_asked_for(
    folder: Folder, compiled: Compiled, opened: Opened
) -> None:
    """The cached picture is near the original's: the trained weights, the real tokenizer and VAE."""
    choice = ROOT / "models" / "shapes" / "choice"
    scene = json.loads((choice / "scenes.json").read_text())["scenes"][0]
    control = diffusers.utils.load_image(str(choice / scene["control"][0]))
    options = {
        "prompt": scene["prompt"],
        "image": control,
        "guidance_scale": 5.0,
        "height": None,
        "width": None,
    }
    original, ours = opened("shapes", folder("shapes")), opened("shapes", compiled("shapes", steps=20))
    expected, found = draw(original, 20, **options), draw(ours, 20, **options)
    noise = float(np.mean((expected - found) ** 2))
    assert 0 < noise < 10**-2.5, noise
