"""`InferenceSession`, which hides what a compiled model has beside the original."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort

from ._binding import Binding
from ._errors import HgcError
from ._generation import Call, Generations, PerThread, Source, Stats, Stream
from ._sidecar import KEY, Evaluation, Sidecar, schedule_for

# As it was before `install()`; onnxruntime has no types.
_Base: TypeAlias = ort.InferenceSession
_PAST = "hgc.past."
_PRESENT = "hgc.present."
_STEP = "hgc.step"
_ROW = "hgc.row"
_OURS = ("hgc.",)


class InferenceSession(_Base):
    """onnxruntime's session; of a compiled model, gated or variants, with the inputs and outputs of the
    original. Other models run as ever.
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | Path,
        sess_options: ort.SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        self._hgc: Sidecar | None = None
        file = None if isinstance(path_or_bytes, bytes) else Path(path_or_bytes)
        beside = Sidecar.beside(file) if file is not None else None
        if sess_options is None and (beside is not None or file is None):
            sess_options = ort.SessionOptions()
            # ONNX Runtime would keep a block of memory for every branch.
            sess_options.enable_mem_pattern = False
        if file is not None and beside is not None and beside.form == "variants":
            file = file.with_name(beside.files[0])
        model = path_or_bytes if file is None else str(file)
        try:
            super().__init__(model, sess_options, providers, provider_options, **kwargs)
        except Exception as error:
            if beside is None or "Invalid model" not in str(error):
                raise
            raise HgcError(
                f"{file} was changed after hgc compiled it, by a tool that does not look into branches; convert, "
                "optimise and quantise the original, then compile it"
            ) from error

        def load(file: str) -> _Base:
            return _Base(file, sess_options, providers, provider_options, **kwargs)

        self._attach(beside, "the model" if file is None else str(file), load)

    @classmethod
    def wrap(cls, session: _Base) -> InferenceSession:
        """A session that is there already, its inner one shared; of variants, the kinds are loaded beside."""
        if isinstance(session, cls):
            return session
        wrapped = cls.__new__(cls)
        wrapped.__dict__.update(session.__dict__)
        wrapped._hgc = None
        path = getattr(session, "_model_path", None)
        beside = Sidecar.beside(path) if path else None
        options, providers = session.get_session_options(), session.get_providers()
        if path and beside is not None and beside.form == "variants":
            # What was loaded is the original that lies beside them.
            return cls(path, options, providers)

        def load(file: str) -> _Base:
            return _Base(file, options, providers)

        wrapped._attach(beside, str(path or "the model"), load)
        return wrapped

    def _attach(self, beside: Sidecar | None, model: str, load: Callable[[str], _Base]) -> None:
        """Finds out what the model is, and loads the other kinds of variants."""
        described = self.get_modelmeta().custom_metadata_map.get(KEY)
        inside = Sidecar.parse(described, model) if described else None
        if beside is None and inside is None:
            return
        variants = beside is not None and beside.form == "variants"
        if not variants and (inside is None or (beside and beside.states != inside.states)):
            raise HgcError(f"the hgc.json beside {model} is of another model; compile the original again")
        for provider, told in self.get_provider_options().items():
            if str(told.get("enable_cuda_graph", "0")).lower() in ("1", "true"):
                raise HgcError(
                    f"enable_cuda_graph of {provider}: a captured graph would read and write old caches; leave it out, "
                    "or run the pipeline with hgc, which keeps them where they are"
                )
        known = beside or inside
        assert known is not None
        self._hgc = known
        self.stats = Stats()
        self._variants: dict[str, _Base] = {}
        if variants:
            for kind, file in zip(known.kinds[1:], known.files[1:], strict=True):
                if Path(file).name != file:
                    raise HgcError(f"hgc.json names the file {file!r}; compile the original again")
                self._variants[kind.name] = load(str(Path(model).with_name(file)))
        self._threads = PerThread()
        self._source = Source(lambda: schedule_for([known]))
        device = self.get_providers()[0]
        self._device = "cuda" if device in ("CUDAExecutionProvider", "TensorrtExecutionProvider") else "cpu"

    @property
    def sidecar(self) -> Sidecar | None:
        """What the model says of itself; None where hgc did not compile it."""
        return self._hgc

    @property
    def _compiled(self) -> Sidecar:
        assert self._hgc is not None, "only sessions of compiled models come here"
        return self._hgc

    @property
    def is_compiled(self) -> bool:
        """Whether the model was compiled by hgc."""
        return self._hgc is not None

    def get_inputs(self) -> Any:
        """The inputs of the original."""
        return [i for i in super().get_inputs() if not i.name.startswith(_OURS)]

    def get_outputs(self) -> Any:
        """The outputs of the original."""
        return [o for o in super().get_outputs() if not o.name.startswith(_OURS)]

    def reset(self) -> None:
        """Ends the generation: the next call begins one, whatever its inputs look like."""
        if self._hgc is not None:
            self._current().reset()

    def follow(
        self, evaluations: int | None = None, sampler: str | None = None, kinds: Sequence[str] | None = None
    ) -> None:
        """From the next generation on, follows the schedule for so many evaluations, or these kinds."""
        if self._hgc is None:
            return
        chosen = schedule_for([self._hgc], evaluations, sampler)
        if kinds:
            chosen = tuple(map(Evaluation, kinds))
        for evaluation in chosen:
            self._hgc.position(evaluation.kind)
        self.follow_as(Source(lambda: chosen))

    def follow_as(self, source: Source) -> None:
        """From the next generation on, asks the source for what the inputs do not say. Models of one pipeline
        share it.
        """
        if self._hgc is not None:
            self._source = source
            self._threads = PerThread()

    def fork(self) -> InferenceSession:
        """Another session over the same loaded model, with generations and `stats` of its own. For another
        pipeline: `accelerate` that once it has the session.
        """
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        if self._hgc is not None:
            other.stats, other._threads = Stats(), PerThread()
            other._source = replace(self._source, forced=set())
        return other

    @contextmanager
    def generation(self, evaluations: int | None = None, sampler: str | None = None) -> Iterator[None]:
        """A generation with caches of its own: within it nothing of the inputs ends it."""
        if self._hgc is None:
            yield
            return
        source = self._source
        if evaluations:
            schedule = schedule_for([self._hgc], evaluations, sampler)
            source = Source(lambda: schedule)
        told = self._threads.told
        told.append(Generations(self._hgc, self.stats, source))
        try:
            yield
        finally:
            told.pop()

    def _current(self) -> Generations:
        mine = self._threads
        if mine.told:
            return mine.told[-1]
        if mine.found is None:
            mine.found = Generations(self._compiled, self.stats, self._source)
        return mine.found

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: dict[str, Any],
        run_options: ort.RunOptions | None = None,
    ) -> list[Any]:
        """As onnxruntime's; the caches stay with the session."""
        if self._hgc is None:
            return list(super().run(output_names, input_feed, run_options))
        binding = Binding(self)
        for name, value in input_feed.items():
            # A scalar must stay one: ascontiguousarray would make it a vector.
            binding.bind_cpu_input(name, np.asarray(value, order="C"))
        self._run(binding, output_names, run_options)
        return list(binding.copy_outputs_to_cpu())

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: dict[str, ort.OrtValue],
        run_options: ort.RunOptions | None = None,
    ) -> list[ort.OrtValue]:
        """As onnxruntime's; the caches stay with the session."""
        if self._hgc is None:
            return list(super().run_with_ort_values(output_names, input_dict_ort_values, run_options))
        binding = Binding(self)
        for name, value in input_dict_ort_values.items():
            binding.bind_ortvalue_input(name, value)
        self._run(binding, output_names, run_options)
        return binding.get_outputs()

    def io_binding(self) -> ort.IOBinding:
        """As onnxruntime's."""
        return super().io_binding() if self._hgc is None else Binding(self)

    def run_with_iobinding(self, iobinding: ort.IOBinding, run_options: ort.RunOptions | None = None) -> None:
        """As onnxruntime's, with a binding from `io_binding()` of this session."""
        if self._hgc is None:
            super().run_with_iobinding(iobinding, run_options)
            return
        if not isinstance(iobinding, Binding):
            raise HgcError(f"{self._hgc.name}: make the binding with `io_binding()` of this session")
        self._run(iobinding, list(iobinding.outputs) or None, run_options)

    def _run(
        self, binding: Binding, output_names: Sequence[str] | None, options: ort.RunOptions | None
    ) -> None:
        """Runs what is bound as the kind that is due; the results are left in the binding."""
        names = list(output_names or [o.name for o in self.get_outputs()])
        self._check(binding, names)
        for name in names:
            if name not in binding.outputs:
                binding.bind_output(name)
        call = Call.of(self._compiled, binding)
        generations = self._current()
        stream, due = generations.admit(call)
        if stream.step >= len(generations.schedule) and not generations.told_past_end:
            generations.told_past_end = True
            warnings.warn(
                f"{self._compiled.name}: the schedule has {len(generations.schedule)} evaluations and this is one "
                "more; everything is recomputed. `hgc schedule add` makes a longer one",
                stacklevel=3,
            )
        try:
            states = self._evaluate(due, binding, names, stream, options)
        except Exception:
            generations.failed(stream)
            raise
        generations.done(stream, due.kind, call, states)

    def _check(self, binding: Binding, names: Sequence[str]) -> None:
        """What the runtime would refuse in words that nobody understands."""
        inputs = [i.name for i in self.get_inputs()]
        outputs = [o.name for o in self.get_outputs()]
        strange = next((name for name in binding.inputs if name not in inputs), None)
        if strange is not None:
            raise HgcError(f"{self._compiled.name} has no input {strange!r}; it has {', '.join(inputs)}")
        missing = next((name for name in inputs if name not in binding.inputs), None)
        if missing is not None:
            raise HgcError(f"{self._compiled.name}: the input {missing!r} has no value")
        unknown = next((name for name in names if name not in outputs), None)
        if unknown is not None:
            raise HgcError(f"{self._compiled.name} has no output {unknown!r}; it has {', '.join(outputs)}")
        latents = [n for n, what in self._compiled.inputs.items() if what == "latent"]
        rows = binding.shape(latents[0])[0] if latents and binding.shape(latents[0]) else 0
        if self._compiled.halves and rows % 2:
            raise HgcError(
                f"{self._compiled.name}: a batch of {rows} rows has no halves, and this model runs the prompted "
                "half alone on some evaluations; compile it with --target any, or with --prompted none for "
                "use without guidance"
            )

    def _evaluate(
        self,
        due: Evaluation,
        binding: Binding,
        names: Sequence[str],
        stream: Stream,
        options: ort.RunOptions | None,
    ) -> dict[str, Any]:
        session = self._variants.get(due.kind, self)
        declared = {info.name for info in _Base.get_inputs(session)}
        inner = _Base.io_binding(session)
        binding.replay(inner, declared)
        for name in declared:
            if name == _STEP:
                inner.bind_cpu_input(name, np.array(self._compiled.step(due), np.int64))
            elif name == _ROW:
                inner.bind_cpu_input(name, np.array(due.row, np.int64))
            elif name.startswith(_PAST):
                inner.bind_ortvalue_input(name, self._past(name, stream))
        presents = [o.name for o in _Base.get_outputs(session) if o.name.startswith(_PRESENT)]
        for name in presents:
            inner.bind_output(name, self._device)
        _Base.run_with_iobinding(session, inner, options)
        # In the order in which they were bound: the caller's, then the caches.
        values = dict(zip([*binding.outputs, *presents], inner.get_outputs(), strict=True))
        binding.results = [values[name] for name in names]
        return {name.removeprefix(_PRESENT): values[name] for name in presents}

    def _past(self, name: str, stream: Stream) -> Any:
        state = name.removeprefix(_PAST)
        if state in stream.states:
            return stream.states[state]
        known = next(s for s in self._compiled.states if s.name == state)
        shape = [size or 0 for size in known.shape]
        return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, known.dtype))


def wrap(session: _Base) -> InferenceSession:
    """A session that is loaded already, as one that runs compiled models; its inner session is shared."""
    return InferenceSession.wrap(session)
