//! Whether a picture shows what its scene asks for.

use image::{Rgb, RgbImage};

use super::set::{Appearance, Truth};

/// The index of the nearest colour by squared distance; the first of equals.
#[must_use]
pub fn nearest(pixel: Rgb<u8>, candidates: &[Rgb<u8>]) -> usize {
    let distance = |c: &Rgb<u8>| -> i32 {
        let channels = c.0.iter().zip(pixel.0);
        channels
            .map(|(a, b)| (i32::from(*a) - i32::from(b)).pow(2))
            .sum()
    };
    let by_distance = candidates
        .iter()
        .enumerate()
        .min_by_key(|(_, c)| distance(c));
    by_distance.map_or(0, |(index, _)| index)
}

/// Mean intersection over union of the regions, ground included.
///
/// Pixels are labelled by the nearest tone of the colours that the prompt names. Picture
/// and truth must be of one size.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn mean_iou(picture: &RgbImage, truth: &Truth, appearance: &Appearance) -> f64 {
    let tones = truth
        .regions
        .iter()
        .flat_map(|(colour, _)| appearance.colours[*colour]);
    let tones: Vec<Rgb<u8>> = tones.collect();
    let count = truth.regions.len();
    let (mut both, mut either) = (vec![0u32; count], vec![0u32; count]);
    for (pixel, label) in picture.pixels().zip(&truth.labels) {
        let (found, wanted) = (nearest(*pixel, &tones) / 2, usize::from(*label));
        either[found] += 1;
        if found == wanted {
            both[found] += 1;
        } else {
            either[wanted] += 1;
        }
    }
    let scores = both.iter().zip(&either);
    let scores = scores.map(|(b, e)| f64::from(*b) / f64::from((*e).max(1)));
    scores.sum::<f64>() / count as f64
}

/// Objects whose dominant colour and texture are right, and objects in all.
///
/// Objects that others cover are not counted. Picture and truth must be of one size.
#[must_use]
pub fn matches(picture: &RgbImage, truth: &Truth, appearance: &Appearance) -> (usize, usize) {
    let tones: Vec<Rgb<u8>> = appearance.colours.iter().flatten().copied().collect();
    let found: Vec<usize> = picture.pixels().map(|p| nearest(*p, &tones)).collect();
    let width = truth.size.0 as usize;
    let (mut right, mut all) = (0, 0);
    for (region, (colour, texture)) in truth.regions.iter().enumerate().skip(1) {
        let mut colours = vec![0usize; appearance.colours.len()];
        let mut agreement = vec![0usize; appearance.textures.len()];
        let here = |(_, label): &(usize, &u8)| usize::from(**label) == region;
        for (pixel, _) in truth.labels.iter().enumerate().filter(here) {
            colours[found[pixel] / 2] += 1;
            let (x, y) = (pixel % width, pixel / width);
            for (count, rows) in agreement.iter_mut().zip(&appearance.textures) {
                let row = &rows[y % rows.len()];
                let dark = found[pixel] % 2 == 1;
                *count += usize::from(row[x % row.len()] == dark);
            }
        }
        if colours.iter().sum::<usize>() == 0 {
            continue;
        }
        all += 1;
        right += usize::from(most(&colours) == *colour && most(&agreement) == *texture);
    }
    (right, all)
}

/// The index of the largest count; the first of equals.
fn most(counts: &[usize]) -> usize {
    let largest = counts.iter().max();
    counts
        .iter()
        .position(|c| Some(c) == largest)
        .unwrap_or_default()
}
