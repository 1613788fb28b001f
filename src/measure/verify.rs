//! The proofs of a rewrite, each by running.
//!
//! 1. Stripping gives the original back.
//! 2. All gates on refresh: bit-identical to the original (fp32, optimisation off).
//! 3. Held values and full guidance: refresh, then reuse on the same inputs, is
//!    bit-identical; on changed inputs it differs from a refresh.
//! 4. A whole generation: every output equals the original graph with the sites' values
//!    replaced by values that are kept and forecast outside of it.
//! 5. On every step just the planned nodes run, from the runtime's profile.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use super::compare::Comparison;
use super::pairs::{carrier, check_original, plan_in};
pub use super::verdict::{Check, Verdict, VerifyOptions};
use super::{Feeds, MeasureError, check_batch, profile};
use crate::analysis::Analysis;
use crate::emit;
use crate::engine::{
    CachedSession, Engine, EngineError, Provider, Session, SessionOptions, Tensor,
};
use crate::onnx::{Model, graph_hash};
use crate::plan::layout::Layout;
use crate::plan::{CacheType, ModelPlan, Plan, Reuse, Schedule};
use crate::sidecar::{FormName, Sidecar};

/// Allowed difference relative to the largest output: rounding of forecasts and of
/// kernels that sum in another order.
fn relative_tolerance(half_precision: bool, exact_provider: bool) -> f64 {
    match (half_precision, exact_provider) {
        (true, _) => 2e-2,
        (false, true) => 1e-4,
        (false, false) => 2e-3,
    }
}

/// Verifies one rewritten file against its original. `told` is called with what is done, what
/// there is to do, and what goes on.
///
/// # Errors
/// [`MeasureError`] if the two do not belong together or a run is refused; a proof that
/// fails is no error but a [`Verdict`] that does not pass.
pub fn verify(
    engine: &'static Engine,
    original: &Path,
    rewritten: &Path,
    settings: &VerifyOptions,
    told: Tell<'_>,
) -> Result<Verdict, MeasureError> {
    let source = Model::read(original)?;
    let (compiled, form) = carrier(rewritten)?;
    let file = rewritten.display().to_string();
    check_original(&source)?;
    let mut plan = plan_in(&compiled)?;
    // Schedules that were added since lie beside the model.
    if let Some(beside) = Sidecar::beside(rewritten)?
        && beside.kinds == plan.kinds
    {
        plan.schedules = beside.schedules;
    }
    let found = graph_hash(&source.proto);
    let name = emit::metadata(&compiled.proto, crate::convention::key::NAME).unwrap_or_default();
    let own = |m: &ModelPlan| m.name == name && m.hash == found;
    let Some(position) = plan.models.iter().position(own) else {
        let expected = plan.models.iter().find(|m| m.name == name);
        return Err(MeasureError::OtherOriginal {
            original: original.display().to_string(),
            rewritten: file,
            found,
            expected: expected.map(|m| m.hash.clone()).unwrap_or_default(),
        });
    };
    let analysis =
        Analysis::of(&source.proto, settings.sizes).map_err(|e| MeasureError::Analysis {
            file: original.display().to_string(),
            source: e,
        })?;
    analysis
        .check_latent()
        .map_err(|unfit| MeasureError::Latent {
            file: original.display().to_string(),
            unfit,
        })?;
    // What decides while the model runs looks at inputs alone: what it must decide is known before.
    let asked = plan.schedules.clone();
    let plan = decided(&plan, &analysis, settings.seed)?;
    let model_plan = &plan.models[position];
    let layout =
        Layout::new(&analysis, &plan, model_plan).map_err(|source| MeasureError::Layout {
            file: file.clone(),
            source,
        })?;
    check_batch(&plan, model_plan, &file, settings.sizes.batch)?;
    let steps: usize = plan.schedules.iter().map(Schedule::evaluations).sum();
    let told = Told {
        tell: RefCell::new(told),
        done: Cell::new(0),
        // A refresh, a reuse, and each step.
        total: steps as u64 + 2,
    };
    let proof = Proof {
        engine,
        settings,
        source: &source,
        compiled: &compiled,
        rewritten,
        form,
        analysis: &analysis,
        plan: &plan,
        asked: &asked,
        model_plan,
        layout: &layout,
        told: &told,
    };
    proof.run()
}

/// The plan with every schedule as it must be decided on the inputs of a proof.
pub(super) fn decided(
    plan: &Plan,
    analysis: &Analysis<'_>,
    seed: u64,
) -> Result<Plan, MeasureError> {
    let mut plan = plan.clone();
    for schedule in &mut plan.schedules {
        if schedule.adaptive.is_none() {
            continue;
        }
        let steps = schedule.evaluations();
        let feeds = Feeds::new(analysis, seed, steps);
        let given: Vec<_> = (0..steps)
            .map(|s| feeds.given(s))
            .collect::<Result<_, _>>()?;
        *schedule = schedule.decided(&plan.kinds, &given);
    }
    plan.expand()?;
    Ok(plan)
}

/// A rewrite, its original and what is known of both.
pub(super) struct Proof<'a, 't> {
    pub(super) engine: &'static Engine,
    pub(super) settings: &'a VerifyOptions,
    pub(super) source: &'a Model,
    pub(super) compiled: &'a Model,
    /// Where sessions open it.
    pub(super) rewritten: &'a Path,
    pub(super) form: FormName,
    pub(super) analysis: &'a Analysis<'a>,
    /// With what is decided while the model runs as it must be.
    pub(super) plan: &'a Plan,
    /// The schedules as they are written.
    pub(super) asked: &'a [Schedule],
    pub(super) model_plan: &'a ModelPlan,
    pub(super) layout: &'a Layout,
    pub(super) told: &'a Told<'t>,
}

/// Called with what is done, what there is to do, and what goes on.
pub type Tell<'a> = &'a mut dyn FnMut(u64, u64, &str);

/// How far a verification is.
pub(super) struct Told<'a> {
    tell: RefCell<Tell<'a>>,
    done: Cell<u64>,
    total: u64,
}

impl Told<'_> {
    /// One more is done, of `what`.
    pub(super) fn tick(&self, what: &str) {
        self.done.set(self.done.get() + 1);
        (self.tell.borrow_mut())(self.done.get(), self.total, what);
    }
}

/// Inputs with their names.
pub(super) type Inputs = Vec<(String, Tensor)>;

/// Outputs with their names.
pub(super) type Outputs = Vec<(String, Tensor)>;

impl Proof<'_, '_> {
    fn run(&self) -> Result<Verdict, MeasureError> {
        let mut verdict = Verdict {
            file: self.rewritten.display().to_string(),
            pass: false,
            refresh_bitwise: None,
            reuse_bitwise: None,
            executed: None,
            max_abs_diff: 0.0,
            tolerance: 0.0,
            checks: vec![self.check_strip()],
        };
        if let Err(error) = self.run_checks(&mut verdict) {
            let reason = self.failure_of_rewritten(&error).ok_or(error)?;
            verdict.max_abs_diff = f64::INFINITY;
            verdict.checks.push(Check {
                name: "run",
                pass: false,
                detail: format!("the rewritten model does not run: {reason}"),
            });
        }
        verdict.pass = verdict.checks.iter().all(|c| c.pass);
        Ok(verdict)
    }

    /// What needs the engine. The generation comes first: what its profile has first is its own.
    fn run_checks(&self, verdict: &mut Verdict) -> Result<(), MeasureError> {
        let (exact, barriers) = (self.is_exact(), self.needs_barriers());
        let named = || profile::prefix(&self.model_plan.name);
        let prefix = self.has_profile().then(named);
        let profiled = prefix.is_some();
        let mut cached = self.cached(prefix)?;
        let (generation, whole) = self.generation(&mut cached)?;
        (verdict.max_abs_diff, verdict.tolerance) = (whole.difference, whole.allowed);
        let originals = self.originals(&self.first_inputs()?)?;
        let (refresh, detail) = self.refresh(&mut cached, &originals)?;
        self.told.tick("refresh");
        verdict.refresh_bitwise = (exact || barriers).then_some(refresh.same);
        verdict.checks.push(Check {
            name: "refresh",
            pass: refresh.within && verdict.refresh_bitwise.unwrap_or(true),
            detail,
        });
        if exact && self.holds_only() {
            let (check, same) = self.reuse(&mut cached, &originals)?;
            verdict.reuse_bitwise = Some(same);
            verdict.checks.push(check);
        }
        self.told.tick("reuse");
        verdict.checks.push(generation);
        if self.form == FormName::Variants {
            verdict.checks.push(self.equals_gated(&mut cached)?);
        }
        for schedule in 1..self.plan.schedules.len() {
            verdict.checks.push(self.follows(&mut cached, schedule)?);
        }
        if profiled {
            let profiles = cached.end_profiling()?;
            let check = self.executed(&profiles)?;
            // Profiles are ours; a leftover does no harm.
            profiles
                .iter()
                .for_each(|path| drop(std::fs::remove_file(path)));
            verdict.executed = Some(check.pass);
            verdict.checks.push(check);
        }
        Ok(())
    }

    /// The reason, where the engine refuses the rewritten file and not the original.
    fn failure_of_rewritten(&self, error: &MeasureError) -> Option<String> {
        let own = self.rewritten.display().to_string();
        match error {
            MeasureError::Engine(
                EngineError::Load { file, source }
                | EngineError::Run { file, source }
                | EngineError::RunEmbedded { file, source },
            ) if *file == own => Some(source.to_string()),
            MeasureError::Engine(EngineError::Convention { file, problem }) if *file == own => {
                Some(problem.clone())
            }
            _ => None,
        }
    }

    fn half_precision(&self) -> bool {
        let shape = self
            .analysis
            .graph
            .outputs()
            .iter()
            .find_map(|v| self.analysis.shapes.get(*v));
        let weights = &self.analysis.graph.proto().initializer;
        shape.is_some_and(|s| s.elem_type != 1) || weights.iter().any(|t| t.data_type() == 10)
    }

    /// Whether the engine's profile says which nodes ran.
    pub(super) fn has_profile(&self) -> bool {
        self.engine.abilities().profiles && self.settings.provider.profiles_nodes()
    }

    /// Whether the same nodes give the same bits here.
    fn repeats_bits(&self) -> bool {
        self.engine.abilities().repeats_bits && self.settings.provider == Provider::Cpu
    }

    /// Whether results must agree bit by bit: fp32 on ONNX Runtime's CPU provider.
    pub(super) fn is_exact(&self) -> bool {
        self.repeats_bits() && !self.half_precision()
    }

    /// Whether bits are compared with the original behind barriers: fp16 on ONNX
    /// Runtime's CPU provider.
    pub(super) fn needs_barriers(&self) -> bool {
        // Variants have no branches.
        let gated = self.form == FormName::Gated;
        gated && self.repeats_bits() && self.half_precision()
    }

    fn holds_only(&self) -> bool {
        let held = self
            .layout
            .sites
            .iter()
            .all(|s| s.site.reuse == Reuse::Hold && s.site.cache == CacheType::Same);
        held && !(self.model_plan.halves && self.plan.guidance.schedule.has_half())
    }

    /// Of the sessions that are compared with; graphs are captured of what is proved alone.
    pub(super) fn options(&self) -> SessionOptions {
        self.asked_options().uncaptured()
    }

    fn asked_options(&self) -> SessionOptions {
        SessionOptions::on(self.settings.provider, &self.settings.provider_options).to_compare()
    }

    fn check_strip(&self) -> Check {
        let original = match self.form {
            FormName::Gated => emit::strip(&self.compiled.proto).map_err(|e| e.to_string()),
            // The original lies beside its variants.
            FormName::Variants => Model::read(self.rewritten)
                .map(|m| m.proto)
                .map_err(|e| e.to_string()),
        };
        let (pass, detail) = match original {
            Ok(model) => {
                let same = graph_hash(&model) == self.model_plan.hash;
                (same, "stripping gives the original graph back".to_owned())
            }
            Err(error) => (false, error),
        };
        Check {
            name: "strip",
            pass,
            detail,
        }
    }

    fn originals(&self, inputs: &[Inputs; 2]) -> Result<[Outputs; 2], MeasureError> {
        let mut session = Session::load(self.engine, &self.source.path, &self.options())?;
        let mut run = |inputs: &Inputs| session.run(&borrowed(inputs), None);
        Ok([run(&inputs[0])?, run(&inputs[1])?])
    }

    pub(super) fn cached(&self, profile: Option<PathBuf>) -> Result<CachedSession, MeasureError> {
        let options = match profile {
            // A captured graph shows no nodes.
            Some(profile) => SessionOptions {
                profile: Some(profile),
                ..self.options()
            },
            None => self.asked_options(),
        };
        Ok(CachedSession::open(self.engine, self.rewritten, &options)?)
    }

    pub(super) fn compare(
        &self,
        expected: &Outputs,
        found: &Outputs,
    ) -> Result<Comparison, MeasureError> {
        let exact = self.settings.provider == Provider::Cpu;
        let relative = relative_tolerance(self.half_precision(), exact);
        let mut whole = Comparison::default();
        for (name, tensor) in expected {
            let other = found.iter().find(|(n, _)| n == name).map(|(_, t)| t);
            let other = other.ok_or_else(|| MeasureError::MissingOutput { name: name.clone() })?;
            let difference = tensor.max_abs_diff(other)?;
            let values = tensor.to_f32();
            // Anything would be within a tolerance that is infinite.
            if values.iter().any(|v| !v.is_finite()) {
                return Err(MeasureError::NotFinite {
                    file: self.source.path.display().to_string(),
                    name: name.clone(),
                    half: self.half_precision(),
                });
            }
            let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            let allowed = relative * f64::from(largest.max(1e-3));
            whole = whole.and(Comparison {
                same: tensor.bit_equal(other),
                // A NaN is never within.
                within: difference <= allowed,
                difference,
                allowed,
            });
        }
        Ok(whole)
    }
}

/// Inputs as sessions take them.
#[must_use]
pub fn borrowed(inputs: &[(String, Tensor)]) -> Vec<(&str, &Tensor)> {
    inputs
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect()
}
