"""The session against a plain loop over the compiled model, and against the original."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import hgc_onnx
from hgc_onnx import HgcError, InferenceSession, Sidecar
from hgc_onnx._sidecar import schedule_for

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "models" / "shapes" / "pipeline"
STEPS = 8


def hgc(*words: str | Path) -> None:
    """Runs the executable."""
    program = os.environ.get("HGC", str(ROOT / "target" / "debug" / "hgc"))
    subprocess.run([program, *map(str, words), "-q"], check=True, capture_output=True)


FORMS = {
    "gated": ["--form", "gated"],
    "variants": ["--form", "variants", "--dynamic"],
    "eight bits": ["--form", "variants", "--dynamic", "--cache-type", "int8"],
}
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int8)": np.int8}


@pytest.fixture(scope="session", params=list(FORMS))
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, compiled in each form."""
    out = tmp_path_factory.mktemp("compiled") / "out"
    form = FORMS[request.param]
    hgc("compile", PIPELINE, "--steps", str(STEPS), "--target", "cpu", *form, "-o", out)
    return out


def exact() -> ort.SessionOptions:
    """Two sessions of one graph give the same bits."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_pattern = False
    return options


SIZES = {"height": 16, "width": 16, "sequence": 24}


def feeds(model: ort.InferenceSession, seed: int, step: int, rows: int = 2) -> dict[str, np.ndarray]:
    """Inputs of one evaluation: the prompt by seed, all else by seed and step."""
    feed = {}
    for number, info in enumerate(model.get_inputs()):
        if info.name == "timestep":
            feed[info.name] = np.full(info.shape, 999 - step * 100, np.int64)
            continue

        def size(dim: int | str) -> int:
            if isinstance(dim, int):
                return dim
            name, _, share = dim.partition("_")
            return rows if name == "batch" else SIZES[name] // int(share or 1)

        constant = info.name == "encoder_hidden_states"
        random = np.random.default_rng([seed, number, 0 if constant else step])
        feed[info.name] = random.standard_normal([size(d) for d in info.shape]).astype(np.float32)
    return feed


class Plain:
    """The loop that a caller writes without this package, over the gated model."""

    def __init__(self, model: Path) -> None:
        self.session = ort.InferenceSession(str(model), exact(), providers=["CPUExecutionProvider"])
        self.pasts = [i for i in self.session.get_inputs() if i.name.startswith("hgc.past.")]
        self.step = 0
        self.past = {}
        for info in self.pasts:
            shape = [d if isinstance(d, int) else 0 for d in info.shape]
            self.past[info.name] = np.zeros(shape, TYPES[info.type])

    def __call__(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        presents = [i.name.replace("past", "present", 1) for i in self.pasts]
        step = np.array(self.step, np.int64)
        results = self.session.run(["out_sample", *presents], {**feed, "hgc.step": step, **self.past})
        self.past = dict(zip(self.past, results[1:], strict=True))
        self.step += 1
        return results[0]


@pytest.fixture(scope="session")
def gated(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The UNet in the gated form, with the same caches, for plain loops."""
    out = tmp_path_factory.mktemp("plain") / "out"
    states = json.loads((compiled / "unet" / "hgc.json").read_text())["states"]
    caches = ["--cache-type", "int8"] if any(state["type"] == "int8" for state in states) else []
    hgc("compile", PIPELINE, "--steps", str(STEPS), "--target", "cpu", *caches, "-o", out)
    return out / "unet" / "model.onnx"


@pytest.fixture
def unet(compiled: Path) -> InferenceSession:
    """A session that is as it was made."""
    return InferenceSession(compiled / "unet" / "model.onnx", exact(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="session")
def original() -> ort.InferenceSession:
    """The original."""
    return InferenceSession(PIPELINE / "unet" / "model.onnx", exact(), providers=["CPUExecutionProvider"])


def test_it_is_called_like_the_original(unet: InferenceSession, original: InferenceSession) -> None:
    assert not original.is_compiled and unet.is_compiled
    assert [i.name for i in unet.get_inputs()] == [i.name for i in original.get_inputs()]
    assert [o.name for o in unet.get_outputs()] == [o.name for o in original.get_outputs()]


def test_a_generation_equals_a_plain_loop(unet: InferenceSession, gated: Path) -> None:
    for seed in (1, 2):
        plain = Plain(gated)
        for step in range(STEPS):
            feed = feeds(unet, seed, step)
            assert np.array_equal(unet.run(None, feed)[0], plain(feed)), (seed, step)
    assert unet.stats.generations == 2
    assert not unet.stats.forced


def test_bindings_and_values_are_taken_as_well(unet: InferenceSession, gated: Path) -> None:
    plain = Plain(gated)
    binding = unet.io_binding()
    for step in range(STEPS):
        feed = feeds(unet, 1, step)
        expected = plain(feed)
        if step % 2:
            values = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in feed.items()}
            found = unet.run_with_ort_values(["out_sample"], values)[0].numpy()
        else:
            for name, value in feed.items():
                binding.bind_cpu_input(name, value)
            binding.bind_input("sample", "cpu", 0, np.float32, (2, 4, 16, 16), feed["sample"].ctypes.data)
            out = np.zeros(expected.shape, np.float32)
            binding.bind_output("out_sample", "cpu", 0, np.float32, out.shape, out.ctypes.data)
            unet.run_with_iobinding(binding)
            found = out
            assert np.array_equal(binding.get_outputs()[0].numpy(), out)
        assert np.array_equal(found, expected), step
    with pytest.raises(HgcError, match="io_binding"):
        unet.run_with_iobinding(ort.IOBinding(unet))


def test_two_passes_a_step_have_caches_of_their_own(unet: InferenceSession, gated: Path) -> None:
    plain = [Plain(gated), Plain(gated)]
    for step in range(STEPS):
        for seed in (0, 1):
            feed = feeds(unet, 5 + seed, step)
            assert np.array_equal(unet.run(None, feed)[0], plain[seed](feed)), (seed, step)


def test_another_prompt_on_the_way_is_recomputed(unet: InferenceSession, original: InferenceSession) -> None:
    for step in range(3):
        unet.run(None, feeds(unet, 1, step))
    feed = feeds(unet, 2, 3)
    assert np.array_equal(unet.run(None, feed)[0], original.run(None, feed)[0])
    assert unet.stats.forced == {"a constant input changed": 1}


@pytest.mark.parametrize("rows", [4, 6])
def test_another_batch_begins_a_generation(
    unet: InferenceSession, original: InferenceSession, rows: int
) -> None:
    for step in range(3):
        unet.run(None, feeds(unet, 1, step))
    feed = feeds(unet, 1, 3, rows)
    assert np.array_equal(unet.run(None, feed)[0], original.run(None, feed)[0])
    assert unet.stats.generations == 2


def test_a_warm_up_does_no_harm(unet: InferenceSession, gated: Path) -> None:
    unet.run(None, feeds(unet, 9, 0))
    plain = Plain(gated)
    for step in range(STEPS):
        feed = feeds(unet, 1, step)
        assert np.array_equal(unet.run(None, feed)[0], plain(feed)), step


def test_the_schedule_can_be_another(unet: InferenceSession, original: InferenceSession) -> None:
    unet.follow(5)
    for step in range(5):
        unet.run(None, feeds(unet, 1, step))
    assert sum(unet.stats.evaluations.values()) == 5 and not unet.stats.forced
    feed = feeds(unet, 1, 5)
    with pytest.warns(UserWarning, match="5 evaluations"):
        found = unet.run(None, feed)[0]
    assert np.array_equal(found, original.run(None, feed)[0])
    unet.follow(kinds=["start"] * 3)
    for step in range(3):
        feed = feeds(unet, 1, step)
        assert np.array_equal(unet.run(None, feed)[0], original.run(None, feed)[0])
    with pytest.raises(HgcError, match="there is no kind 'reuze'"):
        unet.follow(kinds=["reuze"])


def test_a_generation_can_be_told(unet: InferenceSession, gated: Path) -> None:
    for _ in range(2):
        plain = Plain(gated)
        # Timesteps that never fall would begin a generation each.
        with unet.generation():
            for step in range(STEPS):
                feed = feeds(unet, 1, step)
                assert np.array_equal(unet.run(None, feed)[0], plain(feed)), step


def test_two_threads_draw_two_pictures(unet: InferenceSession, gated: Path) -> None:
    def draw(seed: int) -> list[np.ndarray]:
        return [unet.run(None, feeds(unet, seed, step))[0] for step in range(STEPS)]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(draw, (1, 2)))
    for seed, pictures in zip((1, 2), found, strict=True):
        plain = Plain(gated)
        for step, picture in enumerate(pictures):
            assert np.array_equal(picture, plain(feeds(unet, seed, step))), (seed, step)


def test_mistakes_are_told_in_words(unet: InferenceSession) -> None:
    with pytest.raises(HgcError, match="3 rows has no halves.*--target any"):
        unet.run(None, feeds(unet, 1, 0, rows=3))
    feed = feeds(unet, 1, 0)
    with pytest.raises(HgcError, match="no input 'simple'"):
        unet.run(None, {**feed, "simple": feed["sample"]})
    with pytest.raises(HgcError, match="no output 'noise'"):
        unet.run(["noise"], feed)


def test_after_a_failure_everything_is_recomputed(unet: InferenceSession, original: InferenceSession) -> None:
    for step in range(2):
        unet.run(None, feeds(unet, 1, step))
    wrong = feeds(unet, 1, 2)
    wrong["mid_block_additional_residual"] = np.zeros((2, 64, 2, 3), np.float32)
    wrong["sample"] = np.zeros((2, 5, 16, 16), np.float32)
    with pytest.raises(Exception, match="sample"):
        unet.run(None, wrong)
    feed = feeds(unet, 1, 2)
    assert np.array_equal(unet.run(None, feed)[0], original.run(None, feed)[0])


def test_each_kind_of_samplers_has_its_schedule(unet: InferenceSession) -> None:
    assert unet.sidecar is not None
    counted, ddim, pndm, unipc = (
        [evaluation.kind for evaluation in schedule_for([unet.sidecar], STEPS, name)]
        for name in (None, "ddim", "PNDMScheduler", "unipc")
    )
    assert counted == ddim and pndm == unipc and len(pndm) == STEPS
    assert ddim != pndm
    longer = [len(schedule_for([unet.sidecar], 2 * STEPS, name)) for name in ("euler", "unipc")]
    assert longer == [2 * STEPS] * 2


def test_sidecars_that_do_not_fit_are_refused(compiled: Path, tmp_path: Path) -> None:
    text = (compiled / "unet" / "hgc.json").read_text()
    sidecar = Sidecar.parse(text, "here")
    for evaluations in (1, 3, STEPS, 30):
        assert len(schedule_for([sidecar], evaluations)) == evaluations
    for damage in ({"schema": "hgc.model.v9"}, {"schedules": []}, {"kinds": []}, {"macs": [1]}):
        with pytest.raises(HgcError, match="here"):
            Sidecar.parse(json.dumps({**json.loads(text), **damage}), "here")


def test_captured_graphs_are_refused(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"CUDAExecutionProvider": {"enable_cuda_graph": "1"}}
    monkeypatch.setattr(ort.InferenceSession, "get_provider_options", lambda _: told)
    with pytest.raises(HgcError, match="enable_cuda_graph of CUDAExecutionProvider"):
        InferenceSession(compiled / "unet" / "model.onnx")
    # The original takes it.
    InferenceSession(PIPELINE / "unet" / "model.onnx")


def test_a_loaded_session_is_wrapped_and_forked(compiled: Path) -> None:
    """Both run what a session of their own would; neither sees the other's caches."""
    model = compiled / "unet" / "model.onnx"
    plain = ort.InferenceSession(str(model), exact(), providers=["CPUExecutionProvider"])
    wrapped = hgc_onnx.wrap(plain)
    assert hgc_onnx.wrap(wrapped) is wrapped and wrapped.is_compiled
    forked = wrapped.fork()
    alone = InferenceSession(model, exact(), providers=["CPUExecutionProvider"])
    other = InferenceSession(model, exact(), providers=["CPUExecutionProvider"])
    for step in range(STEPS):
        one, two = feeds(alone, 1, step), feeds(alone, 2, step)
        assert np.array_equal(wrapped.run(None, one)[0], alone.run(None, one)[0])
        assert np.array_equal(forked.run(None, two)[0], other.run(None, two)[0])
    assert wrapped.stats == forked.stats == alone.stats


def weighed(folder: Path) -> Path:
    """A plan that follows slopes by other weights on each evaluation, in two schedules."""
    plan = folder / "plan.toml"
    unet, control = (PIPELINE / part / "model.onnx" for part in ("unet", "controlnet"))
    policy = ["--steps", str(STEPS), "--policy", "hgc:reuse=linear,lambda-inter=0.5"]
    hgc("plan", unet, "--controlnet", control, *policy, "-o", plan)
    text = plan.read_text().replace('reuse = "linear"', 'reuse = "fitted"')
    head, kinds, rest = text.partition("kinds = [")
    kinds += rest[: rest.index("]") + 1]
    rows = list(range(STEPS))
    more = f'\n[[schedule]]\nsampler = "euler"\n{kinds}\nrows = {rows[::-1]}\n'
    weights = [0.25 * row for row in range(1, STEPS + 1)]
    sites = ["unet/deep", "controlnet/residuals"]
    tables = "\n".join(f'"{site}" = {weights}' for site in sites)
    text = head + kinds + f"\nrows = {rows}\n" + more + rest[rest.index("]") + 1 :]
    plan.write_text(text + f"\n[weights]\n{tables}\n")
    return plan


def test_weights_are_followed_in_both_forms(tmp_path: Path) -> None:
    plan = weighed(tmp_path)
    sessions = []
    for form in ("gated", "variants"):
        out = tmp_path / form
        dynamic = ["--dynamic"] if form == "variants" else []
        hgc("compile", PIPELINE, "--plan", plan, "--form", form, *dynamic, "-o", out)
        file = out / "unet" / "model.onnx"
        sessions.append(InferenceSession(file, exact(), providers=["CPUExecutionProvider"]))
    gated, variants = sessions
    plain = Plain(tmp_path / "gated" / "unet" / "model.onnx")
    drawn = {}
    for sampler in (None, "euler"):
        for session in sessions:
            session.follow(STEPS, sampler)
        results = []
        for step in range(STEPS):
            feed = feeds(gated, 3, step)
            results.append(gated.run(None, feed)[0])
            assert np.array_equal(results[-1], variants.run(None, feed)[0]), (sampler, step)
            if sampler is None:
                assert np.array_equal(results[-1], plain(feed)), step
        drawn[sampler] = results
    # The same evaluations with other weights.
    assert not all(np.array_equal(*both) for both in zip(*drawn.values(), strict=True))


def decided(folder: Path) -> Path:
    """A plan that refreshes at its start and then where it is decided: the latents of these tests are noise
    that moves by about 1.4.
    """
    plan = folder / "plan.toml"
    unet, control = (PIPELINE / part / "model.onnx" for part in ("unet", "controlnet"))
    policy = ["--steps", str(STEPS), "--policy", "hgc:key-steps=0+1,reuse=hold"]
    hgc("plan", unet, "--controlnet", control, *policy, "-o", plan)
    head, kinds, rest = plan.read_text().partition("kinds = [")
    names = rest[: rest.index("]")]
    instead = names.split(",")[1].strip()
    far = [0.1, 0.1, 0.1, 1.0, 0.1, 0.1, 0.1, 1.0]
    adaptive = (
        f'\n[schedule.adaptive]\ninstead = {instead}\ndecided = "..??????"\nlatent = {far}\n'
        f"time = {[0.0] * STEPS}\nmost = 2\nbudget = 2\n"
    )
    plan.write_text(f"{head}{kinds}{names}]\n{adaptive}{rest[rest.index(']') + 1 :]}")
    return plan


def test_what_runs_is_decided_alike_in_both_forms(tmp_path: Path) -> None:
    plan = decided(tmp_path)
    ran = {}
    for form in ("gated", "variants"):
        out = tmp_path / form
        dynamic = ["--dynamic"] if form == "variants" else []
        hgc("compile", PIPELINE, "--plan", plan, "--form", form, *dynamic, "-o", out)
        session = InferenceSession(out / "unet" / "model.onnx", exact(), providers=["CPUExecutionProvider"])
        # In a loop that only counts, the graph decides by itself.
        plain = Plain(tmp_path / "gated" / "unet" / "model.onnx")
        for step in range(STEPS):
            feed = feeds(session, 3, step)
            assert np.array_equal(session.run(None, feed)[0], plain(feed)), (form, step)
        ran[form] = session.stats.evaluations
        assert not session.stats.forced
    # The start, one that is planned, one for the latent on 3 and one for the cap on 6; on 7 the budget is spent.
    counts = sorted(ran["gated"].values())
    assert ran["gated"] == ran["variants"] and counts == [1, 3, 4], ran


def test_a_gate_is_spread_over_other_evaluations(tmp_path: Path) -> None:
    plan = decided(tmp_path)
    hgc("compile", PIPELINE, "--plan", plan, "-o", tmp_path / "out")
    sidecar = Sidecar.beside(tmp_path / "out" / "unet" / "model.onnx")
    assert sidecar is not None
    gates = [evaluation.gate for evaluation in schedule_for([sidecar], 2 * STEPS)]
    assert gates[0] is None and gates[3] is None and gates[4] is not None
    assert gates[4].most == 4 and gates[4].budget == 4
    assert [g.latent for g in gates[6:8] if g] == [1.0, 1.0]
