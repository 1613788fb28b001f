"""Fuse with the transformers optimiser of ONNX Runtime, as its own Stable Diffusion scripts do.

What comes out is the original that a GPU should be given, and that hgc compiles: fuse first, compile then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import onnx

Device: TypeAlias = Literal["cpu", "gpu"]

# Operators that the CPU provider of ONNX Runtime does not have.
GPU_ONLY = ("group_norm", "skip_group_norm", "nhwc_conv", "bias_add", "bias_splitgelu")


def fuse(source: Path, target: Path, device: Device, half: bool = False, external: bool = False) -> None:
    """Fuse a UNet or ControlNet: attention and norms, for GPUs convolutions and gates too.

    It is in single precision. With ``half`` it is converted after that: the optimiser knows few patterns of
    models that were exported so. With ``external`` the weights lie beside ``target``, in one file.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    gpu = device == "gpu"
    fusions = FusionOptions("unet")
    # The runtime's kernels take packed projections in half precision.
    fusions.enable_packed_qkv = gpu and half
    fusions.enable_packed_kv = gpu
    for name in GPU_ONLY:
        setattr(fusions, f"enable_{name}", gpu)
    model = optimize_model(
        str(source), model_type="unet", opt_level=0, optimization_options=fusions, only_onnxruntime=False
    )
    if half:
        model.convert_float_to_float16(keep_io_types=False)
    if not external:
        model.save_model_to_file(str(target))
        return
    data = target.name + "_data"
    onnx.save(model.model, target, save_as_external_data=True, location=data, size_threshold=1024)
