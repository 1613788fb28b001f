//! A denoising loop over a compiled UNet and ControlNet.
//!
//! ```sh
//! cargo run --example denoise -- /tmp/compiled
//! ```
//!
//! `/tmp/compiled` is what `hgc compile` or `compile_pair` wrote for a Stable Diffusion
//! pair as diffusers names its inputs. Prompt, control image and latent are random: this
//! shows how a pipeline calls the models, not what they draw. A compiled model is called
//! like the original; [`CachedSession`] counts steps and keeps the caches.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hgc::unstable::convention::{PAST_PREFIX, STEP};
use hgc::unstable::engine::{
    CachedSession, DType, Dim, Engine, EngineRequest, Feed, SessionOptions, Tensor, ValueInfo,
};
use hgc::unstable::plan::{ModelPlan, Plan};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const SIDE: usize = 16;
const TOKENS: usize = 77;
const GUIDANCE_SCALE: f32 = 7.5;
const TRAINED_STEPS: usize = 1000;

fn main() -> Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        bail!("usage: denoise COMPILED_DIR")
    };
    let plan = std::fs::read_to_string(folder.join("plan.toml"));
    let plan: Plan = toml::from_str(&plan.context("no plan.toml; is this a compiled folder?")?)?;
    let engine = Engine::start(&EngineRequest::from_env(None)?)?;
    println!("{}", engine.info());
    let open = |name: &str| -> Result<CachedSession> {
        let path = model_file(&folder, name)?;
        Ok(CachedSession::open(
            engine,
            &path,
            &SessionOptions::default(),
        )?)
    };
    let (mut unet, mut controlnet) = (open("unet")?, open("controlnet")?);

    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut latent = normal(&mut random, 4 * SIDE * SIDE);
    let conditions = Conditions::new(&mut random, &controlnet)?;
    let alphas = alphas();
    let steps = plan.steps;
    for step in 0..steps {
        let timestep = (steps - 1 - step) * TRAINED_STEPS / steps + 1;
        let start = Instant::now();
        let noise = predict(&mut unet, &mut controlnet, &conditions, &latent, timestep)?;
        let seconds = start.elapsed().as_secs_f64();
        let next = (steps - 1 - step).checked_sub(1);
        let next = next.map_or(1.0, |left| alphas[left * TRAINED_STEPS / steps + 1]);
        update(&mut latent, &noise, alphas[timestep], next);
        println!("step {step:3}  {seconds:7.3} s  {}", what_ran(&plan, step));
    }
    let mean_square = latent.iter().map(|x| x * x).sum::<f32>() / latent.len() as f32;
    println!("root mean square of the result: {:.4}", mean_square.sqrt());
    Ok(())
}

/// Where `hgc compile` put a model: bare, or in a pipeline folder.
fn model_file(folder: &Path, name: &str) -> Result<PathBuf> {
    let places = [
        folder.join(format!("{name}.onnx")),
        folder.join(name).join("model.onnx"),
    ];
    let found = places.into_iter().find(|p| p.is_file());
    found.with_context(|| format!("{} has no {name}", folder.display()))
}

/// What stays the same over one generation. Rows: first without prompt, then with it.
struct Conditions {
    text: Tensor,
    image: Tensor,
    scale: Tensor,
    float: DType,
}

impl Conditions {
    fn new(random: &mut ChaCha8Rng, controlnet: &CachedSession) -> Result<Self> {
        let text = input(controlnet, "encoder_hidden_states")?;
        let Some(&Dim::Fixed(width)) = text.dims.last() else {
            bail!("the width of the prompt is not fixed")
        };
        let float = text.dtype;
        let make = |shape: &[usize], values: &[f32]| Tensor::from_f32_as(float, shape, values);
        let pixels: Vec<f32> = (0..3 * 64 * SIDE * SIDE).map(|_| random.random()).collect();
        Ok(Self {
            text: make(&[2, TOKENS, width], &normal(random, 2 * TOKENS * width))?,
            image: make(&[2, 3, 8 * SIDE, 8 * SIDE], &pixels.repeat(2))?,
            scale: make(&[], &[1.0])?,
            float,
        })
    }
}

/// The noise in `latent`, guided.
fn predict(
    unet: &mut CachedSession,
    controlnet: &mut CachedSession,
    conditions: &Conditions,
    latent: &[f32],
    timestep: usize,
) -> Result<Vec<f32>> {
    let sample = Tensor::from_f32_as(conditions.float, &[2, 4, SIDE, SIDE], &latent.repeat(2))?;
    let time = input(unet, "timestep")?;
    let rows = if time.dims.is_empty() {
        vec![]
    } else {
        vec![2]
    };
    let values = vec![timestep as f32; rows.iter().product()];
    let time = Tensor::from_f32_as(time.dtype, &rows, &values)?;
    let mut given = vec![
        ("sample", Feed::from(&sample)),
        ("timestep", Feed::from(&time)),
        ("encoder_hidden_states", Feed::from(&conditions.text)),
    ];
    let mut for_control = given.clone();
    for_control.push(("controlnet_cond", Feed::from(&conditions.image)));
    for_control.push(("conditioning_scale", Feed::from(&conditions.scale)));
    // Residuals stay on the device; only the noise comes back.
    let residuals = controlnet.run_on_device(&for_control)?;

    // Residuals go in by position: the names on the two sides differ.
    let taken: Vec<String> = originals(unet)
        .map(|i| i.name.clone())
        .filter(|name| !given.iter().any(|(other, _)| name == other))
        .collect();
    if taken.len() != residuals.len() {
        bail!(
            "the UNet takes {} residuals, the ControlNet gives {}",
            taken.len(),
            residuals.len()
        );
    }
    given.extend(
        taken
            .iter()
            .zip(&residuals)
            .map(|(name, (_, r))| (name.as_str(), Feed::from(r))),
    );
    let outputs = unet.run_on_device(&given)?;
    let (_, noise) = outputs.first().context("the UNet has no output")?;
    let noise = noise.to_tensor()?.to_f32();
    let (plain, prompted) = noise.split_at(noise.len() / 2);
    let guided = plain.iter().zip(prompted);
    Ok(guided.map(|(u, p)| u + GUIDANCE_SCALE * (p - u)).collect())
}

/// The inputs of the original model.
fn originals(model: &CachedSession) -> impl Iterator<Item = &ValueInfo> {
    let own = |name: &str| name == STEP || name.starts_with(PAST_PREFIX);
    model
        .session()
        .inputs()
        .iter()
        .filter(move |i| !own(&i.name))
}

fn input<'m>(model: &'m CachedSession, name: &str) -> Result<&'m ValueInfo> {
    let found = originals(model).find(|i| i.name == name);
    found.with_context(|| format!("{} has no input {name}", model.session().file()))
}

/// Moves `latent` from one noise level to the next (DDIM, without new noise).
fn update(latent: &mut [f32], noise: &[f32], alpha: f32, next: f32) {
    for (x, e) in latent.iter_mut().zip(noise) {
        let clean = (*x - (1.0 - alpha).sqrt() * e) / alpha.sqrt();
        *x = next.sqrt() * clean + (1.0 - next).sqrt() * e;
    }
}

/// Share of the picture left at each trained step: the schedule of Stable Diffusion.
fn alphas() -> Vec<f32> {
    let (first, last) = (0.00085f64.sqrt(), 0.012f64.sqrt());
    let mut product = 1.0;
    let shares = (0..TRAINED_STEPS).map(|t| {
        let beta = first + (last - first) * t as f64 / (TRAINED_STEPS - 1) as f64;
        product *= 1.0 - beta * beta;
        product as f32
    });
    shares.collect()
}

/// What is recomputed on a step: `unet deep cross; controlnet nothing`.
fn what_ran(plan: &Plan, step: usize) -> String {
    let of_model = |model: &ModelPlan| {
        let gates = model.gates.iter().filter(|g| g.schedule.refreshes(step));
        let names: Vec<&str> = gates.map(|g| g.name.as_str()).collect();
        match names.as_slice() {
            [] => format!("{} nothing", model.name),
            names => format!("{} {}", model.name, names.join(" ")),
        }
    };
    let models: Vec<String> = plan.models.iter().map(of_model).collect();
    format!("refreshed: {}", models.join("; "))
}

/// Standard normal numbers.
fn normal(random: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    StandardNormal.sample_iter(random).take(count).collect()
}
