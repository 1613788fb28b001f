//! Pictures: reading control images, writing results, and how much two pictures differ.

use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, Limits, Rgb, RgbImage};

use super::{PipelineError, check_finite};
use crate::engine::Tensor;
use crate::onnx::Transaction;

/// Differences are shown this many times larger.
const SHOWN_DIFFERENCE: i32 = 4;
/// PSNR of equal pictures, in dB: infinity has neither a mean nor a number in JSON.
pub const HIGHEST_PSNR: f64 = 100.0;
/// Side of the window of [`ssim`].
const WINDOW: u32 = 8;

/// Reads a control image as RGB, turned as its metadata says it is to be seen.
///
/// # Errors
/// [`PipelineError`] if it is no picture that can be read.
pub fn read(path: &Path) -> Result<RgbImage, PipelineError> {
    let picture = |e: image::ImageError| PipelineError::Picture {
        file: path.to_owned(),
        source: e,
    };
    let reader = image::ImageReader::open(path).map_err(|source| PipelineError::Open {
        file: path.to_owned(),
        source,
    })?;
    let reader = reader
        .with_guessed_format()
        .map_err(|source| PipelineError::Open {
            file: path.to_owned(),
            source,
        })?;
    let mut decoder = reader.into_decoder().map_err(picture)?;
    // `ImageReader::decode` would see to that, but tells no orientation.
    let mut limits = Limits::default();
    limits.reserve(decoder.total_bytes()).map_err(picture)?;
    let orientation = decoder.orientation().map_err(picture)?;
    let mut found = DynamicImage::from_decoder(decoder).map_err(picture)?;
    found.apply_orientation(orientation);
    Ok(found.to_rgb8())
}

/// Resizes a control image (Lanczos).
#[must_use]
pub fn resized(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    if picture.dimensions() == (width, height) {
        return picture.clone();
    }
    image::imageops::resize(picture, width, height, FilterType::Lanczos3)
}

/// Bytes to `0..1`, channels first.
#[must_use]
pub fn to_planes(picture: &RgbImage) -> Vec<f32> {
    let plane = |c: usize| picture.pixels().map(move |p| f32::from(p.0[c]) / 255.0);
    (0..3).flat_map(plane).collect()
}

/// The pictures of a batch that the decoder `file` gave, `-1..1`, `[B, 3, H, W]`.
///
/// # Errors
/// [`PipelineError`] if the tensor is no batch of pictures, or has values that are not finite.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn from_tensor(tensor: &Tensor, file: &Path) -> Result<Vec<RgbImage>, PipelineError> {
    let [_, 3, height, width] = *tensor.shape() else {
        return Err(PipelineError::NotAPicture {
            shape: tensor.shape().to_vec(),
        });
    };
    let values = tensor.to_f32();
    check_finite(&values, file, String::new)?;
    let (w, h) = (width as u32, height as u32);
    let plane = width * height;
    let of = |rows: &[f32]| {
        RgbImage::from_fn(w, h, |x, y| {
            let at = y as usize * width + x as usize;
            let byte = |c: usize| {
                let value = (rows[c * plane + at] / 2.0 + 0.5).clamp(0.0, 1.0);
                (value * 255.0).round() as u8
            };
            Rgb([byte(0), byte(1), byte(2)])
        })
    };
    Ok(values.chunks_exact(3 * plane.max(1)).map(of).collect())
}

/// Whether pictures can be written to a name with this ending.
#[must_use]
pub fn is_writable(ending: &str) -> bool {
    ImageFormat::from_extension(ending).is_some_and(|f| f.writing_enabled())
}

/// Writes a picture to a temporary name, then renames it; the ending chooses the format. An
/// existing file is replaced only with `force`.
///
/// # Errors
/// [`PipelineError`] naming the file.
pub fn write(picture: &RgbImage, path: &Path, force: bool) -> Result<(), PipelineError> {
    let format = ImageFormat::from_path(path).map_err(|source| PipelineError::Picture {
        file: path.to_owned(),
        source,
    })?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, format)
        .map_err(|source| PipelineError::Picture {
            file: path.to_owned(),
            source,
        })?;
    let mut transaction = Transaction::new(force);
    transaction
        .add_bytes(path, bytes.get_ref())
        .map_err(Box::new)?;
    transaction.commit().map_err(Box::new)?;
    Ok(())
}

/// Peak signal-to-noise ratio in dB over all channels; [`HIGHEST_PSNR`] for equal pictures.
///
/// Pictures must be of one size.
#[must_use]
pub fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares = a.as_raw().iter().zip(b.as_raw()).map(|(x, y)| {
        let d = f64::from(*x) - f64::from(*y);
        d * d
    });
    #[allow(clippy::cast_precision_loss)]
    let mean = squares.sum::<f64>() / a.as_raw().len().max(1) as f64;
    (10.0 * (255.0 * 255.0 / mean).log10()).min(HIGHEST_PSNR)
}

/// Structural similarity (Wang et al. 2004) of luminance, over windows of 8 by 8 pixels at
/// every second place; 1 for equal pictures.
///
/// Pictures must be of one size.
#[must_use]
pub fn ssim(a: &RgbImage, b: &RgbImage) -> f64 {
    let luminance = |p: &Rgb<u8>| {
        0.299 * f64::from(p.0[0]) + 0.587 * f64::from(p.0[1]) + 0.114 * f64::from(p.0[2])
    };
    let (width, height) = a.dimensions();
    let (side_x, side_y) = (WINDOW.min(width), WINDOW.min(height));
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    let (mut total, mut windows) = (0.0, 0.0);
    for top in (0..=height - side_y).step_by(2) {
        for left in (0..=width - side_x).step_by(2) {
            let (mut sa, mut sb, mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for y in top..top + side_y {
                for x in left..left + side_x {
                    let (p, q) = (luminance(a.get_pixel(x, y)), luminance(b.get_pixel(x, y)));
                    sa += p;
                    sb += q;
                    saa += p * p;
                    sbb += q * q;
                    sab += p * q;
                }
            }
            let n = f64::from(side_x * side_y);
            let (ma, mb) = (sa / n, sb / n);
            let (va, vb, cov) = (saa / n - ma * ma, sbb / n - mb * mb, sab / n - ma * mb);
            total += (2.0 * ma * mb + c1) * (2.0 * cov + c2)
                / ((ma * ma + mb * mb + c1) * (va + vb + c2));
            windows += 1.0;
        }
    }
    total / f64::max(windows, 1.0)
}

/// How far two pictures of one size are apart, by pixel and channel, four times as much as it is.
#[must_use]
pub fn difference(a: &RgbImage, b: &RgbImage) -> RgbImage {
    let (width, height) = a.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let (a, b) = (a.get_pixel(x, y), b.get_pixel(x, y));
        let apart = |c: usize| {
            let d = i32::from(a.0[c]) - i32::from(b.0[c]);
            (d.abs() * SHOWN_DIFFERENCE).min(255) as u8
        };
        Rgb([apart(0), apart(1), apart(2)])
    })
}
