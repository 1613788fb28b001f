//! Row arithmetic on host tensors: the batch is the outermost axis in memory, so half
//! of the batch is half of the buffer.

use crate::engine::{DType, Tensor, TensorError};
use crate::plan::Prompted;

/// A tensor's values in f32 with the shape of the whole.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Values.
    pub data: Vec<f32>,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Axis of the batch; none for a value that does not follow it.
    pub axis: Option<usize>,
}

impl Rows {
    /// The values of a tensor.
    #[must_use]
    pub fn of(tensor: &Tensor, axis: Option<usize>) -> Self {
        Self {
            data: tensor.to_f32(),
            shape: tensor.shape().to_vec(),
            axis,
        }
    }

    /// Back to a tensor of the element type of `like`.
    ///
    /// # Errors
    /// If the type cannot hold the values.
    pub fn tensor(&self, like: &Tensor) -> Result<Tensor, TensorError> {
        Tensor::from_f32_as(like.dtype(), &self.shape, &self.data)
    }

    /// The values as half precision has them.
    ///
    /// # Errors
    /// As for [`tensor`](Self::tensor).
    pub fn in_half_precision(&self) -> Result<Self, TensorError> {
        self.as_type(DType::F16)
    }

    /// The values as an element type has them.
    ///
    /// # Errors
    /// As for [`tensor`](Self::tensor).
    pub fn as_type(&self, dtype: DType) -> Result<Self, TensorError> {
        let typed = Tensor::from_f32_as(dtype, &self.shape, &self.data)?;
        Ok(Self {
            data: typed.to_f32(),
            ..self.clone()
        })
    }

    /// The values as 8 bits have them: multiples, up to the 127th, of the smallest power of two (2^-24 to
    /// 2^17) that reaches the largest of those which lie along the axes `within`.
    #[must_use]
    pub fn in_eight_bits(mut self, within: &[usize]) -> Self {
        let strides: Vec<usize> = (0..self.shape.len())
            .map(|axis| self.shape[axis + 1..].iter().product())
            .collect();
        let apart = (0..self.shape.len()).filter(|axis| !within.contains(axis));
        let apart: Vec<(usize, usize)> = apart.map(|a| (strides[a], self.shape[a])).collect();
        let groups = apart.iter().map(|(_, size)| size).product();
        let group = |at: usize| {
            let position =
                |n: usize, (stride, size): &(usize, usize)| n * size + at / stride % size;
            apart.iter().fold(0, position)
        };
        let mut largest = vec![0.0f32; groups];
        for (at, value) in self.data.iter().enumerate() {
            let most = &mut largest[group(at)];
            *most = most.max(value.abs());
        }
        for (at, value) in self.data.iter_mut().enumerate() {
            let most = largest[group(at)];
            let enough = |exponent: &i32| 127.0 * 2f32.powi(*exponent) >= most;
            let step = 2f32.powi((-24..17).find(enough).unwrap_or(17));
            *value = (*value / step).round_ties_even().clamp(-127.0, 127.0) * step;
        }
        self
    }

    fn part(&self, from: usize, to: usize) -> Self {
        let Some(axis) = self.axis else {
            return self.clone();
        };
        let mut shape = self.shape.clone();
        shape[axis] /= 2;
        Self {
            data: self.data[from..to].to_vec(),
            shape,
            axis: self.axis,
        }
    }

    /// Prompted and unprompted half.
    #[must_use]
    pub fn halves(&self, prompted: Prompted) -> (Self, Self) {
        let middle = self.data.len() / 2;
        let (first, second) = (self.part(0, middle), self.part(middle, self.data.len()));
        match prompted {
            Prompted::Last => (second, first),
            Prompted::First => (first, second),
        }
    }

    /// A whole batch from its halves.
    #[must_use]
    pub fn join(prompted_rows: &Self, other: &Self, prompted: Prompted) -> Self {
        let (first, second) = match prompted {
            Prompted::Last => (other, prompted_rows),
            Prompted::First => (prompted_rows, other),
        };
        let mut shape = first.shape.clone();
        if let Some(axis) = first.axis {
            shape[axis] *= 2;
        }
        let data = first.data.iter().chain(&second.data).copied().collect();
        Self {
            data,
            shape,
            axis: first.axis,
        }
    }

    /// Element by element.
    #[must_use]
    pub fn zip(&self, other: &Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let data = self
            .data
            .iter()
            .zip(&other.data)
            .map(|(a, b)| f(*a, *b))
            .collect();
        Self {
            data,
            shape: self.shape.clone(),
            axis: self.axis,
        }
    }
}
