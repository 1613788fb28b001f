//! A compiled folder, whose schedules change without a model being written again.

use std::path::{Path, PathBuf};

use super::output::PLAN_FILE;
use super::solvers::wanted;
use super::{CompileError, InputError, Inputs, Project, Source, models_of};
use crate::emit::{self, StripError};
use crate::limited;
use crate::onnx::{Model, ReadError, Transaction, WriteError};
use crate::plan::flow::Flows;
use crate::plan::parameter::Parameters;
use crate::plan::policy::Policy;
use crate::plan::{Plan, Schedule};
use crate::sidecar::{self, FormName, Sidecar, SidecarError};

/// Why schedules of a folder cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum InstalledError {
    #[error("{folder} has no {PLAN_FILE} that can be read; give the folder that was compiled to")]
    NoPlan {
        folder: PathBuf,
        source: std::io::Error,
    },
    #[error("{folder}/{PLAN_FILE} is not a plan: {reason}")]
    Plan { folder: PathBuf, reason: String },
    #[error("{folder} has no {file}, which its plan speaks of")]
    Missing { folder: PathBuf, file: PathBuf },
    #[error("{file} was compiled before schedules lay beside models; compile the original again")]
    NoSidecar { file: PathBuf },
    #[error("{first} and {second} are not of one compilation; compile the originals again")]
    Apart { first: PathBuf, second: PathBuf },
    #[error(
        "the schedule for {evaluations} evaluations is in the models themselves, for callers that \
         only count; compile again to change it"
    )]
    Own { evaluations: usize },
    #[error("there is no schedule for {evaluations} evaluations{sampler}; there are {known}")]
    Unknown {
        evaluations: usize,
        sampler: String,
        known: String,
    },
    #[error("cannot give back the original of {file}")]
    Strip { file: PathBuf, source: StripError },
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the plan could not be written as TOML: {0}")]
    Toml(#[from] toml::ser::Error),
}

/// A folder that was compiled to.
pub struct Installed {
    folder: PathBuf,
    /// Its plan, with all schedules.
    pub plan: Plan,
    /// The sidecars, with their files.
    sidecars: Vec<(PathBuf, Sidecar)>,
    models: Vec<PathBuf>,
}

impl Installed {
    /// Reads plan and sidecars of a folder.
    ///
    /// # Errors
    /// [`InstalledError`] naming the file that is missing or does not fit.
    pub fn open(folder: &Path) -> Result<Self, InstalledError> {
        let text = limited::read_text(&folder.join(PLAN_FILE));
        let text = text.map_err(|source| InstalledError::NoPlan {
            folder: folder.to_owned(),
            source,
        })?;
        let plan: Plan = toml::from_str(&text).map_err(|e| InstalledError::Plan {
            folder: folder.to_owned(),
            reason: e.to_string(),
        })?;
        let models = files_of(folder, &plan)?;
        let mut sidecars: Vec<(PathBuf, Sidecar)> = Vec::new();
        for model in &models {
            let file = sidecar::path_of(model);
            let found = Sidecar::beside(model)?;
            let found = found.ok_or_else(|| InstalledError::NoSidecar {
                file: model.clone(),
            })?;
            if let Some((first, other)) = sidecars.first()
                && (&other.kinds, &other.schedules) != (&found.kinds, &found.schedules)
            {
                let (first, second) = (first.clone(), file);
                return Err(InstalledError::Apart { first, second });
            }
            sidecars.push((file, found));
        }
        Ok(Self {
            folder: folder.to_owned(),
            plan,
            sidecars,
            models,
        })
    }

    /// How the models are written.
    #[must_use]
    pub fn form(&self) -> FormName {
        self.sidecars
            .first()
            .map_or(FormName::Gated, |(_, s)| s.form)
    }

    /// The schedules, that of the models themselves first.
    #[must_use]
    pub fn schedules(&self) -> &[Schedule] {
        &self.plan.schedules
    }

    /// What may follow what.
    #[must_use]
    pub fn flows(&self) -> Option<Flows> {
        sidecar::flows_of(&self.sidecars.iter().map(|(_, s)| s).collect::<Vec<_>>())
    }

    /// The originals of the models.
    ///
    /// # Errors
    /// [`InstalledError`] naming the model that was changed since.
    pub fn originals(&self) -> Result<Inputs, InstalledError> {
        let mut sources = Vec::new();
        for (path, (_, sidecar)) in self.models.iter().zip(&self.sidecars) {
            let model = Model::read(path)?;
            let proto = match sidecar.form {
                // The original lies beside its variants.
                FormName::Variants => model.proto.clone(),
                FormName::Gated => {
                    emit::strip(&model.proto).map_err(|source| InstalledError::Strip {
                        file: path.clone(),
                        source,
                    })?
                }
            };
            sources.push(Source {
                model: Model { proto, ..model },
                relative: None,
            });
        }
        Ok(Inputs {
            sources,
            pipeline: None,
        })
    }

    /// The schedule that `policy` makes with `parameters` for the [originals](Self::originals), over the kinds that are there: each
    /// evaluation does what is planned or more.
    ///
    /// # Errors
    /// [`InstalledError`] if the policy cannot plan so.
    pub fn by_policy(
        &self,
        project: &Project<'_>,
        policy: &dyn Policy,
        parameters: &Parameters,
    ) -> Result<Schedule, InstalledError> {
        let own = project.adopt(self.plan.clone())?;
        let other = project.plan(policy, parameters)?;
        let wanted = wanted(&own, &other.plan);
        let flows = self.flows().ok_or_else(|| InstalledError::NoSidecar {
            file: self.folder.clone(),
        })?;
        Ok(flows.fit(&wanted.iter().collect::<Vec<_>>()))
    }

    /// What was told to the policy beyond its defaults, for so many evaluations.
    ///
    /// # Errors
    /// [`InstalledError`] if the policy cannot plan for these models any more.
    pub fn told(
        &self,
        project: &Project<'_>,
        policy: &dyn Policy,
        evaluations: usize,
    ) -> Result<Parameters, InstalledError> {
        let usual = project.plan(policy, &Parameters::new(self.plan.steps))?;
        let mut parameters = Parameters::new(evaluations);
        for (name, text) in &self.plan.parameters {
            let used = policy.uses().iter().find(|u| u.parameter.name == name);
            if usual.plan.parameters.get(name) != Some(text)
                && let Some(used) = used
                && let Ok(value) = used.parameter.read(text)
            {
                parameters.set(used.parameter, value);
            }
        }
        Ok(parameters)
    }

    /// Adds a schedule, or replaces the one for as many evaluations with the same sampler.
    ///
    /// # Errors
    /// [`InstalledError::Own`] for the one that is in the models.
    pub fn add(&mut self, schedule: Schedule) -> Result<(), InstalledError> {
        let evaluations = schedule.evaluations();
        match self.position(evaluations, schedule.sampler.as_deref()) {
            Some(0) => return Err(InstalledError::Own { evaluations }),
            Some(known) => self.plan.schedules[known] = schedule,
            None => self.plan.schedules.push(schedule),
        }
        Ok(())
    }

    /// Takes a schedule away.
    ///
    /// # Errors
    /// [`InstalledError`] if there is none, or it is in the models.
    pub fn remove(
        &mut self,
        evaluations: usize,
        sampler: Option<&str>,
    ) -> Result<(), InstalledError> {
        match self.position(evaluations, sampler) {
            Some(0) => Err(InstalledError::Own { evaluations }),
            Some(known) => {
                self.plan.schedules.remove(known);
                Ok(())
            }
            None => {
                let all = self.schedules().iter();
                let known = all.map(|s| match &s.sampler {
                    Some(sampler) => format!("{} ({sampler})", s.evaluations()),
                    None => s.evaluations().to_string(),
                });
                Err(InstalledError::Unknown {
                    evaluations,
                    sampler: sampler.map(|s| format!(" with {s}")).unwrap_or_default(),
                    known: known.collect::<Vec<_>>().join(", "),
                })
            }
        }
    }

    fn position(&self, evaluations: usize, sampler: Option<&str>) -> Option<usize> {
        let same = |s: &Schedule| s.evaluations() == evaluations && s.sampler.as_deref() == sampler;
        self.plan.schedules.iter().position(same)
    }

    /// Writes plan and sidecars, all or none; no model is touched. Gives the files.
    ///
    /// # Errors
    /// [`InstalledError`] if one cannot be written.
    pub fn write(&self) -> Result<Vec<PathBuf>, InstalledError> {
        let mut transaction = Transaction::new(true);
        for model in &self.models {
            transaction.protect(model);
        }
        for (file, known) in &self.sidecars {
            let sidecar = Sidecar {
                schedules: self.plan.schedules.clone(),
                ..known.clone()
            };
            transaction.add_bytes(file, sidecar.text().as_bytes())?;
        }
        let toml = toml::to_string(&self.plan)?;
        transaction.add_bytes(&self.folder.join(PLAN_FILE), toml.as_bytes())?;
        Ok(transaction.commit()?)
    }
}

/// The files of a compiled folder's models, UNet first.
fn files_of(folder: &Path, plan: &Plan) -> Result<Vec<PathBuf>, InstalledError> {
    let bare = |name: &str| folder.join(format!("{name}.onnx"));
    let first = plan.models.first().map(|m| bare(&m.name));
    let files: Vec<PathBuf> = match first.filter(|f| f.is_file()) {
        Some(_) => plan.models.iter().map(|m| bare(&m.name)).collect(),
        None => models_of(folder)?,
    };
    let missing = files.iter().find(|f| !f.is_file()).cloned();
    let few = || bare(&plan.models[files.len()].name);
    match missing.or_else(|| (files.len() < plan.models.len()).then(few)) {
        Some(file) => Err(InstalledError::Missing {
            folder: folder.to_owned(),
            file,
        }),
        None => Ok(files),
    }
}
