"""Exported UNets and ControlNets, compiled or not, in the stock pipelines of diffusers.

    from hgc_onnx.diffusers import load

    pipe = load("sd15-cached")
    picture = pipe("a red house", image=edges, num_inference_steps=20).images[0]

`load` gives diffusers' own pipeline for what the folder has: ControlNets or none, image to image, inpainting, XL.
`UNet.load` and `ControlNet.load` give the parts, for a pipeline that is there already.
"""

from ._load import TASKS, load
from ._networks import ControlNet, ControlNets, UNet
from ._parts import TextEncoder, Vae

__all__ = ["TASKS", "ControlNet", "ControlNets", "TextEncoder", "UNet", "Vae", "load"]
