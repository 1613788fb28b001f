//! Reading small files whose names come from outside: a device or a wrong file must not fill the
//! memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

/// The most bytes of a text file.
pub const MOST: u64 = 64 << 20;

/// The bytes of a file.
///
/// # Errors
/// If it cannot be read or has more than [`MOST`] bytes.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {} MiB; is it the right file?", MOST >> 20),
        ));
    }
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// As [`read`], or if it is no UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read(path)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text (UTF-8)"))
}

/// Why a JSON file cannot be used.
#[derive(Debug)]
pub enum JsonError {
    /// It is there and cannot be read.
    Open(io::Error),
    /// It is no JSON, or another one.
    Json(serde_json::Error),
}

/// A JSON file; none where there is no such file.
///
/// # Errors
/// [`JsonError`], for the caller to say of which file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, JsonError> {
    match read_text(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(JsonError::Json),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(JsonError::Open(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_device_without_an_end_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("more than 64 MiB"), "{error}");
    }
}
