//! Shapes with a symbolic batch.

use std::fmt;

/// One dimension, linear in the batch: `per_batch * B + fixed`.
///
/// Exported diffusion graphs have a batch that is doubled for guidance; all other
/// sizes are numbers once latent size and token count are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dim {
    /// Factor of the batch.
    pub per_batch: i64,
    /// Part that does not depend on the batch.
    pub fixed: i64,
}

impl Dim {
    /// A dimension that does not depend on the batch.
    #[must_use]
    pub fn fixed(value: i64) -> Self {
        Self {
            per_batch: 0,
            fixed: value,
        }
    }

    /// The batch itself.
    #[must_use]
    pub fn batch() -> Self {
        Self {
            per_batch: 1,
            fixed: 0,
        }
    }

    /// Size at `batch`; 0 where it would be negative.
    #[must_use]
    pub fn at(self, batch: u64) -> u64 {
        let batch = i64::try_from(batch).unwrap_or(i64::MAX);
        let size = self
            .per_batch
            .saturating_mul(batch)
            .saturating_add(self.fixed);
        u64::try_from(size).unwrap_or(0)
    }

    /// Whether the size follows the batch.
    #[must_use]
    pub fn follows_batch(self) -> bool {
        self.per_batch != 0
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.per_batch, self.fixed) {
            (0, n) => write!(f, "{n}"),
            (1, 0) => write!(f, "B"),
            (k, 0) => write!(f, "{k}B"),
            (k, n) => write!(f, "{k}B{n:+}"),
        }
    }
}

/// Element type and, as far as known, the dimensions of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// `TensorProto.DataType` of the elements; 0 where unknown.
    pub elem_type: i32,
    /// The dimensions.
    pub dims: Vec<Dim>,
}

impl Shape {
    /// Number of elements at `batch`.
    #[must_use]
    pub fn elements(&self, batch: u64) -> u64 {
        self.dims
            .iter()
            .fold(1u64, |n, d| n.saturating_mul(d.at(batch)))
    }

    /// Bytes at `batch`; an unknown element type counts four bytes.
    #[must_use]
    pub fn bytes(&self, batch: u64) -> u64 {
        self.elements(batch)
            .saturating_mul(elem_size(self.elem_type))
    }

    /// The axis that carries the batch: the outermost that follows it, where all
    /// axes before it have size 1.
    #[must_use]
    pub fn batch_axis(&self) -> Option<usize> {
        let axis = self.dims.iter().position(|d| d.follows_batch())?;
        let leading = self.dims[..axis].iter().all(|d| *d == Dim::fixed(1));
        let single = self.dims.iter().filter(|d| d.follows_batch()).count() == 1;
        (leading && single && self.dims[axis].fixed == 0).then_some(axis)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, dim) in self.dims.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { "x" })?;
        }
        Ok(())
    }
}

/// What numpy calls a `TensorProto.DataType`.
#[must_use]
pub fn elem_name(elem_type: i32) -> &'static str {
    match elem_type {
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        4 => "uint16",
        5 => "int16",
        6 => "int32",
        7 => "int64",
        9 => "bool",
        10 => "float16",
        11 => "float64",
        12 => "uint32",
        13 => "uint64",
        16 => "bfloat16",
        _ => "other",
    }
}

/// Bytes of one element of a `TensorProto.DataType`.
#[must_use]
pub fn elem_size(elem_type: i32) -> u64 {
    match elem_type {
        2 | 3 | 9 => 1,
        4 | 5 | 10 | 16 => 2,
        7 | 11 | 13 | 14 => 8,
        15 => 16,
        _ => 4,
    }
}
