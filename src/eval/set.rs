//! Sets of scenes: prompts, control images, seeds, and what the pictures must show.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use serde::Deserialize;

use crate::pipeline::{PipelineError, picture};

/// Why a set cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum SetError {
    #[error("cannot read the set {file}", file = file.display())]
    Open {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{file}: not a set of scenes", file = file.display())]
    Json {
        file: PathBuf,
        source: serde_json::Error,
    },
    #[error("{file}, scene {scene}", file = file.display())]
    Control {
        file: PathBuf,
        scene: usize,
        source: Box<PipelineError>,
    },
    #[error("{file}, scene {scene}: {kind} {name:?} is not one that the set describes", file = file.display())]
    Unknown {
        file: PathBuf,
        scene: usize,
        kind: &'static str,
        name: String,
    },
    #[error("{file}: {what}", file = file.display())]
    Invalid { file: PathBuf, what: String },
}

/// What to draw.
#[derive(Clone, Debug)]
pub struct Set {
    /// The scenes.
    pub scenes: Vec<Scene>,
    /// What colours and textures look like; none where the set does not say.
    pub appearance: Option<Appearance>,
}

/// One picture to draw.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The prompt.
    pub prompt: String,
    /// What not to draw.
    pub negative_prompt: String,
    /// Control images, one a ControlNet.
    pub controls: Vec<RgbImage>,
    /// Seed of the noise.
    pub seed: u64,
    /// What the picture must show.
    pub truth: Option<Truth>,
}

/// Colours by their tones, textures by where they are dark.
#[derive(Clone, Debug)]
pub struct Appearance {
    /// Light and dark tone of every colour.
    pub colours: Vec<[Rgb<u8>; 2]>,
    /// Rows of every texture, repeated from the corner of the picture; dark where true.
    pub textures: Vec<Vec<Vec<bool>>>,
}

/// Which region each pixel belongs to, and how regions look.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Width and height.
    pub size: (u32, u32),
    /// Region of each pixel, row by row; 0 is the ground.
    pub labels: Vec<u8>,
    /// Colour and texture of each region, as indices of [`Appearance`].
    pub regions: Vec<(usize, usize)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSet {
    scenes: Vec<RawScene>,
    #[serde(default)]
    colours: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    textures: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScene {
    prompt: String,
    #[serde(default)]
    negative_prompt: String,
    #[serde(default)]
    control: Vec<PathBuf>,
    seed: u64,
    /// Regions of the first control image, the ground first.
    #[serde(default)]
    regions: Vec<RawRegion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegion {
    /// Its colour in the control image.
    map: [u8; 3],
    colour: String,
    texture: String,
}

impl Set {
    /// The first `count` scenes, and so many others to judge by what was found with them: those that follow, or, where
    /// there are not as many, the same with other noise.
    #[must_use]
    pub fn split(mut self, count: usize, others: usize) -> (Self, Self) {
        let rest = self.scenes.split_off(count.min(self.scenes.len()));
        let scenes = match rest.len() >= others {
            true => rest.into_iter().take(others).collect(),
            false => self.with_other_noise(others),
        };
        let others = Self {
            scenes,
            appearance: self.appearance.clone(),
        };
        (self, others)
    }

    /// So many scenes: the same with other noise, again and again.
    fn with_other_noise(&self, count: usize) -> Vec<Scene> {
        let again = (1u64..).flat_map(|time| {
            self.scenes.iter().map(move |scene| Scene {
                // Far from what people number scenes with.
                seed: scene.seed ^ (time << 40),
                ..scene.clone()
            })
        });
        match self.scenes.is_empty() {
            true => Vec::new(),
            false => again.take(count).collect(),
        }
    }

    /// Reads a set; control images are found beside the file.
    ///
    /// # Errors
    /// [`SetError`] naming file and scene.
    pub fn read(file: &Path) -> Result<Self, SetError> {
        let text = crate::limited::read_text(file).map_err(|source| SetError::Open {
            file: file.to_owned(),
            source,
        })?;
        let json = |source| SetError::Json {
            file: file.to_owned(),
            source,
        };
        let invalid = |what: &str| SetError::Invalid {
            file: file.to_owned(),
            what: what.to_owned(),
        };
        let raw: RawSet = serde_json::from_str(&text).map_err(json)?;
        if raw.scenes.is_empty() {
            return Err(invalid("it has no scenes"));
        }
        let mut appearance = Appearance {
            colours: Vec::new(),
            textures: Vec::new(),
        };
        for tones in raw.colours.values() {
            let tones: [[u8; 3]; 2] = serde_json::from_value(tones.clone()).map_err(json)?;
            appearance.colours.push(tones.map(Rgb));
        }
        for rows in raw.textures.values() {
            let rows: Vec<String> = serde_json::from_value(rows.clone()).map_err(json)?;
            if rows.is_empty() || rows.iter().any(String::is_empty) {
                return Err(invalid("a texture has no pixels"));
            }
            let dark = |row: &String| row.chars().map(|c| c == '#').collect();
            appearance.textures.push(rows.iter().map(dark).collect());
        }
        let colours: Vec<&String> = raw.colours.keys().collect();
        let textures: Vec<&String> = raw.textures.keys().collect();
        let folder = file.parent().unwrap_or(Path::new(""));
        let mut scenes = Vec::new();
        for (index, scene) in raw.scenes.into_iter().enumerate() {
            let read = |path: &PathBuf| picture::read(&folder.join(path));
            let controls: Result<Vec<RgbImage>, _> = scene.control.iter().map(read).collect();
            let controls = controls.map_err(|source| SetError::Control {
                file: file.to_owned(),
                scene: index,
                source: Box::new(source),
            })?;
            let known = |kind: &'static str, names: &[&String], name: &str| {
                let found = names.iter().position(|n| *n == name);
                found.ok_or_else(|| SetError::Unknown {
                    file: file.to_owned(),
                    scene: index,
                    kind,
                    name: name.to_owned(),
                })
            };
            if scene.regions.len() > usize::from(u8::MAX) {
                return Err(invalid("a scene has more than 255 regions"));
            }
            let mut regions = Vec::new();
            for region in &scene.regions {
                let colour = known("colour", &colours, &region.colour)?;
                regions.push((colour, known("texture", &textures, &region.texture)?));
            }
            let maps: Vec<[u8; 3]> = scene.regions.iter().map(|r| r.map).collect();
            let truth = controls
                .first()
                .filter(|_| !regions.is_empty())
                .map(|control| Truth {
                    size: control.dimensions(),
                    labels: labels(control, &maps),
                    regions,
                });
            scenes.push(Scene {
                prompt: scene.prompt,
                negative_prompt: scene.negative_prompt,
                controls,
                seed: scene.seed,
                truth,
            });
        }
        let counts: Vec<usize> = scenes.iter().map(|s| s.controls.len()).collect();
        if counts.iter().any(|c| *c != counts[0]) {
            return Err(invalid(
                "all scenes must have the same number of control images",
            ));
        }
        let scored = scenes.iter().any(|s| s.truth.is_some());
        Ok(Self {
            scenes,
            appearance: scored.then_some(appearance),
        })
    }
}

/// The region of each pixel: that of the nearest colour.
fn labels(control: &RgbImage, maps: &[[u8; 3]]) -> Vec<u8> {
    let candidates: Vec<Rgb<u8>> = maps.iter().map(|m| Rgb(*m)).collect();
    let label = |p: &Rgb<u8>| u8::try_from(super::score::nearest(*p, &candidates)).unwrap_or(0);
    control.pixels().map(label).collect()
}
