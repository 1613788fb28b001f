//! What hgc knows of operators: one entry each, in [`OPERATORS`].
//!
//! Recognisers ask for a [`Family`], never for a name; counts of multiply-accumulates and shapes
//! that inference lacks come from the same entry. An operator that is not here is of the family
//! [`Family::Other`]: it stays as it is and nothing is concluded from it.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::onnx::is_standard_domain;
use crate::onnx::proto::NodeProto;

/// The domain of the operators of ONNX Runtime.
pub const MICROSOFT: &str = "com.microsoft";

/// What an operator does to the values it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Holds a tensor.
    Constant,
    /// Gives the sizes of its input, as a vector.
    Shape,
    /// Gives the number of elements of its input.
    Size,
    /// Gives another value on every run.
    Random,
    /// Gives its first input as it is.
    Same,
    /// Gives its first input in another element type.
    Cast,
    /// To or from an integer type, by a scale.
    Quantize,
    /// The same elements in the same order under other sizes.
    Reshape,
    /// The same elements with the axes in another order.
    Transpose,
    /// The same elements, repeated.
    Expand,
    /// Joins its inputs along an axis.
    Concat,
    /// Takes parts out of its first input.
    Part,
    /// Adds its inputs.
    Sum,
    /// The difference of two inputs.
    Difference,
    /// The product of two inputs, element by element.
    Product,
    /// The quotient of two inputs.
    Quotient,
    /// Arithmetic on each element that is none of the above.
    Arithmetic,
    /// Sine or cosine: the embedding of numbers.
    Wave,
    /// Asks something of each element.
    Test,
    /// Takes each element from one of two inputs.
    Select,
    /// The weights of attention.
    Softmax,
    /// A whole attention.
    Attention,
    /// A convolution.
    Convolution,
    /// A transposed convolution.
    ConvolutionTranspose,
    /// A product of matrices.
    MatrixProduct,
    /// A product of matrices of which one or both are quantised.
    QuantizedProduct,
    /// Fewer pixels.
    Pool,
    /// More pixels.
    Upsample,
    /// A norm of the sum of two inputs.
    SkipNorm,
    /// Anything else.
    #[default]
    Other,
}

impl Family {
    /// Whether it reads sizes alone of its input.
    #[must_use]
    pub fn measures(self) -> bool {
        matches!(self, Self::Shape | Self::Size)
    }

    /// Whether it gives the elements of its first input in another type or order, all of them
    /// once.
    #[must_use]
    pub fn rearranges(self) -> bool {
        matches!(
            self,
            Self::Same | Self::Cast | Self::Reshape | Self::Transpose
        )
    }

    /// Whether it computes on each element alone.
    #[must_use]
    pub fn is_arithmetic(self) -> bool {
        matches!(
            self,
            Self::Sum | Self::Difference | Self::Product | Self::Quotient | Self::Arithmetic
        )
    }

    /// Whether it is a convolution of either kind.
    #[must_use]
    pub fn convolves(self) -> bool {
        matches!(self, Self::Convolution | Self::ConvolutionTranspose)
    }
}

/// How multiply-accumulates follow from shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Macs {
    /// Each element of the output meets the kernel once.
    Convolution {
        /// The position of the kernel.
        weight: usize,
    },
    /// Each element of the input meets the kernel once.
    ConvolutionTranspose,
    /// Elements of the output times the inner size.
    Product {
        /// The positions of the factors.
        factors: &'static [usize],
    },
    /// `q k^T` and `p v`.
    Attention,
    /// The same, with the projection to query, key and value inside.
    PackedAttention,
}

/// The shape of the first output, for operators that shape inference does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputShape {
    /// That of the first input.
    Same,
    /// The same; the second and third output are statistics, with a last axis of 1.
    Norm,
    /// The last axis is halved: a gate and what it gates.
    HalveLast,
    /// A convolution.
    Convolution {
        /// Whether the channels are the last axis, not the second.
        channels_last: bool,
    },
    /// A product of matrices.
    Product,
    /// Attention with the projection to query, key and value inside.
    PackedAttention,
    /// `com.microsoft.MultiHeadAttention`.
    Attention,
    /// `Attention` of ai.onnx, where query heads may share a head of key and value.
    GroupedAttention,
}

/// Who defines an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// ONNX.
    Onnx,
    /// ONNX Runtime (`com.microsoft`).
    Microsoft,
}

/// What is known of an operator.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    /// `NodeProto.op_type`.
    pub name: &'static str,
    /// Who defines it.
    pub domain: Domain,
    /// What it does.
    pub family: Family,
    /// How many multiply-accumulates it has; none if absent.
    pub macs: Option<Macs>,
    /// Its output's shape, if inference does not know it.
    pub shape: Option<OutputShape>,
}

const fn onnx(name: &'static str, family: Family) -> Operator {
    Operator {
        name,
        domain: Domain::Onnx,
        family,
        macs: None,
        shape: None,
    }
}

const fn microsoft(name: &'static str, family: Family, shape: OutputShape) -> Operator {
    Operator {
        domain: Domain::Microsoft,
        shape: Some(shape),
        ..onnx(name, family)
    }
}

impl Operator {
    const fn counts(mut self, macs: Macs) -> Self {
        self.macs = Some(macs);
        self
    }

    const fn shaped(mut self, shape: OutputShape) -> Self {
        self.shape = Some(shape);
        self
    }

    /// Of ONNX Runtime, with a shape that inference finds.
    const fn contrib(mut self) -> Self {
        self.domain = Domain::Microsoft;
        self
    }
}

const PRODUCT: Macs = Macs::Product { factors: &[0, 1] };
/// Scales stand between the factors of some.
const QUANTIZED: Macs = Macs::Product {
    factors: &[0, 1, 3],
};
const CONVOLUTION: Macs = Macs::Convolution { weight: 1 };
const CHANNELS_FIRST: OutputShape = OutputShape::Convolution {
    channels_last: false,
};
const CHANNELS_LAST: OutputShape = OutputShape::Convolution {
    channels_last: true,
};

/// All operators that hgc knows.
pub static OPERATORS: &[Operator] = {
    use Family as F;
    use OutputShape as S;
    &[
        onnx("Constant", F::Constant),
        onnx("Shape", F::Shape),
        onnx("Size", F::Size),
        onnx("RandomNormal", F::Random),
        onnx("RandomUniform", F::Random),
        onnx("RandomNormalLike", F::Random),
        onnx("RandomUniformLike", F::Random),
        onnx("Multinomial", F::Random),
        onnx("Bernoulli", F::Random),
        // Values pass through.
        onnx("Identity", F::Same),
        onnx("Dropout", F::Same),
        onnx("Cast", F::Cast),
        onnx("QuantizeLinear", F::Quantize),
        onnx("DequantizeLinear", F::Quantize),
        onnx("DynamicQuantizeLinear", F::Quantize),
        onnx("Reshape", F::Reshape),
        onnx("Squeeze", F::Reshape),
        onnx("Unsqueeze", F::Reshape),
        onnx("Flatten", F::Reshape),
        onnx("Transpose", F::Transpose),
        onnx("Expand", F::Expand),
        onnx("Concat", F::Concat),
        onnx("Split", F::Part),
        onnx("Gather", F::Part),
        onnx("Slice", F::Part),
        // Arithmetic.
        onnx("Add", F::Sum),
        onnx("Sum", F::Sum),
        onnx("Sub", F::Difference),
        onnx("Mul", F::Product),
        onnx("Div", F::Quotient),
        onnx("Mod", F::Arithmetic),
        onnx("Neg", F::Arithmetic),
        onnx("Pow", F::Arithmetic),
        onnx("Sqrt", F::Arithmetic),
        onnx("Sin", F::Wave),
        onnx("Cos", F::Wave),
        onnx("IsNaN", F::Test),
        onnx("Where", F::Select),
        // Convolutions and what changes the number of pixels.
        onnx("Conv", F::Convolution).counts(CONVOLUTION),
        onnx("ConvInteger", F::Convolution).counts(CONVOLUTION),
        onnx("QLinearConv", F::Convolution).counts(Macs::Convolution { weight: 3 }),
        microsoft("FusedConv", F::Convolution, CHANNELS_FIRST).counts(CONVOLUTION),
        microsoft("NhwcConv", F::Convolution, CHANNELS_LAST).counts(CONVOLUTION),
        microsoft("NhwcFusedConv", F::Convolution, CHANNELS_LAST).counts(CONVOLUTION),
        onnx("ConvTranspose", F::ConvolutionTranspose).counts(Macs::ConvolutionTranspose),
        onnx("AveragePool", F::Pool),
        onnx("MaxPool", F::Pool),
        onnx("Resize", F::Upsample),
        onnx("Upsample", F::Upsample),
        onnx("DepthToSpace", F::Upsample),
        // Products of matrices.
        onnx("MatMul", F::MatrixProduct).counts(PRODUCT),
        onnx("Gemm", F::MatrixProduct).counts(PRODUCT),
        onnx("Einsum", F::MatrixProduct),
        microsoft("FusedMatMul", F::MatrixProduct, S::Product).counts(PRODUCT),
        microsoft("FusedMatMulActivation", F::MatrixProduct, S::Product).counts(PRODUCT),
        microsoft("FusedGemm", F::MatrixProduct, S::Product).counts(PRODUCT),
        microsoft("GemmFastGelu", F::MatrixProduct, S::Product).counts(PRODUCT),
        microsoft("TransposeMatMul", F::MatrixProduct, S::Product).counts(PRODUCT),
        onnx("MatMulInteger", F::QuantizedProduct).counts(QUANTIZED),
        onnx("QLinearMatMul", F::QuantizedProduct).counts(QUANTIZED),
        onnx("MatMulNBits", F::QuantizedProduct)
            .contrib()
            .counts(QUANTIZED),
        onnx("MatMulIntegerToFloat", F::QuantizedProduct)
            .contrib()
            .counts(QUANTIZED),
        onnx("DynamicQuantizeMatMul", F::QuantizedProduct)
            .contrib()
            .counts(QUANTIZED),
        onnx("MatMulBnb4", F::QuantizedProduct)
            .contrib()
            .counts(QUANTIZED),
        onnx("QGemm", F::QuantizedProduct)
            .contrib()
            .counts(QUANTIZED),
        // Attention.
        onnx("Softmax", F::Softmax),
        onnx("Attention", F::Attention)
            .counts(Macs::Attention)
            .shaped(S::GroupedAttention),
        microsoft("Attention", F::Attention, S::PackedAttention).counts(Macs::PackedAttention),
        microsoft("MultiHeadAttention", F::Attention, S::Attention).counts(Macs::Attention),
        microsoft("DecoderMaskedMultiHeadAttention", F::Other, S::Attention),
        // Norms and activations of ONNX Runtime.
        microsoft("BiasAdd", F::Other, S::Same),
        microsoft("BiasGelu", F::Other, S::Same),
        microsoft("BiasSplitGelu", F::Other, S::HalveLast),
        microsoft("FastGelu", F::Other, S::Same),
        microsoft("Gelu", F::Other, S::Same),
        microsoft("QuickGelu", F::Other, S::Same),
        microsoft("BiasSoftmax", F::Other, S::Same),
        microsoft("GroupNorm", F::Other, S::Same),
        microsoft("SkipGroupNorm", F::SkipNorm, S::Same),
        microsoft("SkipLayerNormalization", F::Other, S::Norm),
        microsoft("SkipSimplifiedLayerNormalization", F::Other, S::Norm),
        microsoft("SimplifiedLayerNormalization", F::Other, S::Norm),
    ]
};

static BY_NAME: LazyLock<HashMap<&str, Vec<&Operator>>> = LazyLock::new(|| {
    let mut by_name: HashMap<&str, Vec<&Operator>> = HashMap::new();
    for operator in OPERATORS {
        by_name.entry(operator.name).or_default().push(operator);
    }
    by_name
});

/// What is known of the operator of this name in this domain. ONNX Runtime keeps some of its own
/// operators in the default domain.
#[must_use]
pub fn find(domain: &str, name: &str) -> Option<&'static Operator> {
    let domain = match domain {
        _ if is_standard_domain(domain) => Domain::Onnx,
        MICROSOFT => Domain::Microsoft,
        _ => return None,
    };
    let entries = BY_NAME.get(name)?;
    let exact = entries.iter().find(|o| o.domain == domain);
    exact.or_else(|| entries.first()).copied()
}

/// What is known of the operator of a node.
#[must_use]
pub fn of(node: &NodeProto) -> Option<&'static Operator> {
    find(node.domain(), node.op_type())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_operator_has_one_entry_in_a_domain() {
        let mut seen = HashSet::new();
        for operator in OPERATORS {
            let entry = (operator.name, operator.domain == Domain::Onnx);
            assert!(seen.insert(entry), "{} stands twice", operator.name);
        }
    }

    #[test]
    fn the_domain_tells_operators_of_one_name_apart() {
        let macs = |domain| find(domain, "Attention").and_then(|o| o.macs);
        assert_eq!(macs("com.microsoft"), Some(Macs::PackedAttention));
        assert_eq!(macs("ai.onnx"), Some(Macs::Attention));
        assert_eq!(macs(""), Some(Macs::Attention));
        assert_eq!(macs("somebody.else"), None);
    }

    #[test]
    fn an_operator_of_the_runtime_in_the_default_domain_is_known() {
        let found = find("", "SimplifiedLayerNormalization");
        assert_eq!(found.and_then(|o| o.shape), Some(OutputShape::Norm));
        assert!(find("", "Nonsense").is_none());
    }
}
