"""Write what diffusers' samplers compute, step by step, for the tests of ours.

    samplers.py --out tests/fixtures/samplers.json

The model is a formula, so that no weights are needed: ``0.5 x + 0.2 sin(3 x + t / 100)`` of the latent
as the model gets it. Fresh noise is ``sin(12.9 (i + 1) + 78.2 step)`` at index ``i``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral

STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
VELOCITY = {"prediction_type": "v_prediction"}
SPACINGS = ("leading", "trailing", "linspace")
VALUES = 5


def cases() -> list[tuple[str, dict[str, Any], int]]:
    """Class, configuration and steps of every case."""
    found = []
    for name in (
        "DDIMScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
    ):
        clip = {"clip_sample": False, "set_alpha_to_one": False} if name == "DDIMScheduler" else {}
        base = STABLE | clip
        found.append((name, {}, 7))
        for spacing in SPACINGS:
            found.append((name, base | {"timestep_spacing": spacing, "steps_offset": 1}, 20))
            found.append((name, base | VELOCITY | {"timestep_spacing": spacing}, 6))
        found.append((name, base | {"beta_schedule": "squaredcos_cap_v2"}, 5))
        found.append((name, base | {"beta_schedule": "linear"}, 1))
        zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        found.append((name, base | VELOCITY | zero, 8))
        if name.startswith(("EulerD", "DPM", "UniPC")):
            found.append((name, base | {"use_karras_sigmas": True}, 9))
            found.append((name, base | {"final_sigmas_type": "sigma_min"}, 16))
    found.append(("DPMSolverMultistepScheduler", STABLE | {"solver_type": "heun"}, 18))
    found.append(("DPMSolverMultistepScheduler", STABLE | {"solver_order": 1}, 8))
    found.append(("DPMSolverMultistepScheduler", STABLE | {"euler_at_final": True}, 16))
    # Without a lowest level diffusers ends this one in NaN.
    form = {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}
    found.append(("UniPCMultistepScheduler", STABLE | form, 18))
    found.append(("UniPCMultistepScheduler", STABLE | {"disable_corrector": [0, 1]}, 10))
    return found


def run(name: str, config: dict[str, Any], steps: int) -> dict[str, Any]:
    """The timesteps and latents of one generation."""
    scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(steps)
    indices = torch.arange(VALUES, dtype=torch.float64)
    latent = (torch.sin(indices + 1) * float(scheduler.init_noise_sigma)).float().reshape(1, 1, 1, -1)
    latents = []
    for step, time in enumerate(scheduler.timesteps):
        fresh = torch.sin(12.9 * (indices + 1) + 78.2 * step).float()
        ancestral.randn_tensor = lambda shape, fresh=fresh, **_: fresh.reshape(shape)
        given = scheduler.scale_model_input(latent, time)
        prediction = 0.5 * given + 0.2 * torch.sin(3 * given + float(time) / 100)
        latent = scheduler.step(prediction.float(), time, latent).prev_sample
        latents.append([round(float(value), 6) for value in latent.flatten()])
    unset = (None, float("-inf"))
    stored = {key: value for key, value in scheduler.config.items() if value not in unset}
    return {
        "config": stored | {"_class_name": name},
        "initial_sigma": float(scheduler.init_noise_sigma),
        "timesteps": [round(float(time), 4) for time in scheduler.timesteps],
        "latents": latents,
    }


def main() -> None:
    """Write all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    lines = [json.dumps(run(*case), separators=(",", ":")) for case in cases()]
    arguments.out.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
