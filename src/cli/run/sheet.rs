//! Pictures beside each other, each with a line of text above it.

use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::{Rgb, RgbImage, imageops};

/// Height of the line of text at scale 1.
const LINE: u32 = 12;
const GLYPH: u32 = 8;
const INK: Rgb<u8> = Rgb([36, 41, 47]);
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);

/// Puts pictures of one size into a row. Text that is wider than its picture is cut.
pub fn sheet(panels: &[(String, RgbImage)]) -> RgbImage {
    let (width, height) = panels.first().map_or((1, 1), |(_, p)| p.dimensions());
    // Letters that can be read beside a picture of 512 pixels.
    let scale = (width / 256).clamp(1, 4);
    let count = u32::try_from(panels.len()).unwrap_or(1);
    let mut sheet = RgbImage::from_pixel(width * count, height + LINE * scale, PAPER);
    for (x, (text, picture)) in (0..).step_by(width as usize).zip(panels) {
        write(&mut sheet, text, (x, width), scale);
        imageops::replace(&mut sheet, picture, i64::from(x), i64::from(LINE * scale));
    }
    sheet
}

/// Writes one line at the top, from `x` on.
fn write(sheet: &mut RgbImage, text: &str, (x, width): (u32, u32), scale: u32) {
    let most = (width / (GLYPH * scale)) as usize;
    for (place, letter) in (0..).zip(text.chars().take(most)) {
        let Some(rows) = BASIC_FONTS.get(letter) else {
            continue;
        };
        let left = x + place * GLYPH * scale;
        for (row, bits) in (0..).zip(rows) {
            for column in (0..GLYPH).filter(|c| bits >> c & 1 == 1) {
                for (dx, dy) in (0..scale).flat_map(|dx| (0..scale).map(move |dy| (dx, dy))) {
                    let (px, py) = (left + column * scale + dx, (row + 2) * scale + dy);
                    if px < sheet.width() && py < sheet.height() {
                        sheet.put_pixel(px, py, INK);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_below_their_text() {
        let red = RgbImage::from_pixel(64, 64, Rgb([255, 0, 0]));
        let blue = RgbImage::from_pixel(64, 64, Rgb([0, 0, 255]));
        let sheet = sheet(&[("one".into(), red), ("a text too long".into(), blue)]);
        assert_eq!(sheet.dimensions(), (128, 64 + LINE));
        assert_eq!(sheet.get_pixel(3, LINE).0, [255, 0, 0]);
        assert_eq!(sheet.get_pixel(64, LINE).0, [0, 0, 255]);
        let ink = |x: std::ops::Range<u32>| {
            x.into_iter()
                .any(|x| (0..LINE).any(|y| *sheet.get_pixel(x, y) == INK))
        };
        assert!(ink(0..24) && !ink(24..64) && ink(64..128));
    }
}
