//! Encoding to a stream, so that a model with gigabytes of inline weights takes no memory
//! beyond its own.
//!
//! prost encodes into memory only. Here messages above a size are taken apart: their small
//! fields are encoded by prost, their large ones are recursed into, and payloads go straight
//! to the stream. Fields keep the order of their numbers, so the bytes are those prost writes.
//! Every message taken apart is destructured in full: a field added to the schema does not
//! compile until it is written here.

use std::io::{self, Write};

use bytes::Bytes;
use prost::Message;

use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto,
    TensorProto, TrainingInfoProto,
};
use super::wire::{put_varint, varint_len};

/// Messages up to this size are encoded in memory.
const LIGHT: usize = 1 << 20;

/// Entries of a typed payload that are encoded at a time.
const CHUNK: usize = 1 << 14;

const DELIMITED: u32 = 2;

/// Writes `model` to `out`, the same bytes as prost would.
///
/// # Errors
/// Those of `out`.
pub fn encode_model(model: &ModelProto, out: &mut dyn Write) -> io::Result<()> {
    Encoder::new(out, LIGHT).model(model)
}

struct Encoder<'w> {
    out: &'w mut dyn Write,
    buffer: Vec<u8>,
    light: usize,
}

impl<'w> Encoder<'w> {
    fn new(out: &'w mut dyn Write, light: usize) -> Self {
        Self {
            out,
            buffer: Vec::new(),
            light,
        }
    }

    fn model(&mut self, model: &ModelProto) -> io::Result<()> {
        let ModelProto {
            ir_version,
            producer_name,
            producer_version,
            domain,
            model_version,
            doc_string,
            graph,
            opset_import,
            metadata_props,
            training_info,
            functions,
            configuration,
        } = model;
        self.fields(&ModelProto {
            ir_version: *ir_version,
            producer_name: producer_name.clone(),
            producer_version: producer_version.clone(),
            domain: domain.clone(),
            model_version: *model_version,
            doc_string: doc_string.clone(),
            ..ModelProto::default()
        })?;
        self.each(7, graph, Self::graph)?;
        self.each(8, opset_import, Self::fields)?;
        self.each(14, metadata_props, Self::fields)?;
        self.each(20, training_info, Self::training)?;
        self.each(25, functions, Self::function)?;
        self.each(26, configuration, Self::fields)
    }

    fn training(&mut self, training: &TrainingInfoProto) -> io::Result<()> {
        let TrainingInfoProto {
            initialization,
            algorithm,
            initialization_binding,
            update_binding,
        } = training;
        self.each(1, initialization, Self::graph)?;
        self.each(2, algorithm, Self::graph)?;
        self.each(3, initialization_binding, Self::fields)?;
        self.each(4, update_binding, Self::fields)
    }

    fn function(&mut self, function: &FunctionProto) -> io::Result<()> {
        let FunctionProto {
            name,
            input,
            output,
            attribute,
            node,
            doc_string,
            opset_import,
            domain,
            attribute_proto,
            value_info,
            overload,
            metadata_props,
        } = function;
        self.fields(&FunctionProto {
            name: name.clone(),
            input: input.clone(),
            output: output.clone(),
            attribute: attribute.clone(),
            ..FunctionProto::default()
        })?;
        self.each(7, node, Self::node)?;
        self.fields(&FunctionProto {
            doc_string: doc_string.clone(),
            opset_import: opset_import.clone(),
            domain: domain.clone(),
            ..FunctionProto::default()
        })?;
        self.each(11, attribute_proto, Self::attribute)?;
        self.each(12, value_info, Self::fields)?;
        self.fields(&FunctionProto {
            overload: overload.clone(),
            metadata_props: metadata_props.clone(),
            ..FunctionProto::default()
        })
    }

    fn graph(&mut self, graph: &GraphProto) -> io::Result<()> {
        let GraphProto {
            node,
            name,
            initializer,
            doc_string,
            input,
            output,
            value_info,
            quantization_annotation,
            sparse_initializer,
            metadata_props,
        } = graph;
        self.each(1, node, Self::node)?;
        self.fields(&GraphProto {
            name: name.clone(),
            ..GraphProto::default()
        })?;
        self.each(5, initializer, Self::tensor)?;
        self.fields(&GraphProto {
            doc_string: doc_string.clone(),
            ..GraphProto::default()
        })?;
        self.each(11, input, Self::fields)?;
        self.each(12, output, Self::fields)?;
        self.each(13, value_info, Self::fields)?;
        self.each(14, quantization_annotation, Self::fields)?;
        self.each(15, sparse_initializer, Self::sparse)?;
        self.each(16, metadata_props, Self::fields)
    }

    fn node(&mut self, node: &NodeProto) -> io::Result<()> {
        let NodeProto {
            input,
            output,
            name,
            op_type,
            attribute,
            doc_string,
            domain,
            overload,
            metadata_props,
            device_configurations,
        } = node;
        self.fields(&NodeProto {
            input: input.clone(),
            output: output.clone(),
            name: name.clone(),
            op_type: op_type.clone(),
            ..NodeProto::default()
        })?;
        self.each(5, attribute, Self::attribute)?;
        self.fields(&NodeProto {
            doc_string: doc_string.clone(),
            domain: domain.clone(),
            overload: overload.clone(),
            metadata_props: metadata_props.clone(),
            device_configurations: device_configurations.clone(),
            ..NodeProto::default()
        })
    }

    fn attribute(&mut self, attribute: &AttributeProto) -> io::Result<()> {
        let AttributeProto {
            name,
            f,
            i,
            s,
            t,
            g,
            floats,
            ints,
            strings,
            tensors,
            graphs,
            doc_string,
            tp,
            type_protos,
            r#type,
            ref_attr_name,
            sparse_tensor,
            sparse_tensors,
        } = attribute;
        self.fields(&AttributeProto {
            name: name.clone(),
            f: *f,
            i: *i,
            s: s.clone(),
            ..AttributeProto::default()
        })?;
        self.each(5, t, Self::tensor)?;
        self.each(6, g, Self::graph)?;
        self.fields(&AttributeProto {
            floats: floats.clone(),
            ints: ints.clone(),
            strings: strings.clone(),
            ..AttributeProto::default()
        })?;
        self.each(10, tensors, Self::tensor)?;
        self.each(11, graphs, Self::graph)?;
        self.fields(&AttributeProto {
            doc_string: doc_string.clone(),
            tp: tp.clone(),
            type_protos: type_protos.clone(),
            r#type: *r#type,
            ref_attr_name: ref_attr_name.clone(),
            ..AttributeProto::default()
        })?;
        self.each(22, sparse_tensor, Self::sparse)?;
        self.each(23, sparse_tensors, Self::sparse)
    }

    fn sparse(&mut self, sparse: &SparseTensorProto) -> io::Result<()> {
        let SparseTensorProto {
            values,
            indices,
            dims,
        } = sparse;
        self.each(1, values, Self::tensor)?;
        self.each(2, indices, Self::tensor)?;
        self.fields(&SparseTensorProto {
            dims: dims.clone(),
            ..SparseTensorProto::default()
        })
    }

    fn tensor(&mut self, tensor: &TensorProto) -> io::Result<()> {
        let TensorProto {
            dims,
            data_type,
            segment,
            float_data,
            int32_data,
            string_data,
            int64_data,
            name,
            raw_data,
            double_data,
            uint64_data,
            doc_string,
            external_data,
            data_location,
            metadata_props,
        } = tensor;
        self.fields(&TensorProto {
            dims: dims.clone(),
            data_type: *data_type,
            segment: *segment,
            ..TensorProto::default()
        })?;
        self.fixed(4, float_data, f32::to_le_bytes)?;
        self.varints(5, int32_data, |v| i64::from(v) as u64)?;
        string_data.iter().try_for_each(|s| self.bytes(6, s))?;
        self.varints(7, int64_data, |v| v as u64)?;
        self.fields(&TensorProto {
            name: name.clone(),
            ..TensorProto::default()
        })?;
        raw_data.iter().try_for_each(|raw| self.bytes(9, raw))?;
        self.fixed(10, double_data, f64::to_le_bytes)?;
        self.varints(11, uint64_data, |v| v)?;
        self.fields(&TensorProto {
            doc_string: doc_string.clone(),
            external_data: external_data.clone(),
            data_location: *data_location,
            metadata_props: metadata_props.clone(),
            ..TensorProto::default()
        })
    }

    /// Message fields with number `field`; `body` writes the contents of a large one.
    fn each<'m, M: Message + 'm>(
        &mut self,
        field: u32,
        messages: impl IntoIterator<Item = &'m M>,
        body: fn(&mut Self, &M) -> io::Result<()>,
    ) -> io::Result<()> {
        for message in messages {
            let len = message.encoded_len();
            self.head(field, len)?;
            if len <= self.light {
                self.fields(message)?;
            } else {
                body(self, message)?;
            }
        }
        Ok(())
    }

    /// The fields that are set in `message`, encoded by prost.
    fn fields<M: Message>(&mut self, message: &M) -> io::Result<()> {
        self.buffer.clear();
        message.encode(&mut self.buffer)?;
        self.out.write_all(&self.buffer)
    }

    fn bytes(&mut self, field: u32, bytes: &Bytes) -> io::Result<()> {
        self.head(field, bytes.len())?;
        self.out.write_all(bytes)
    }

    /// A packed field of numbers of one size.
    fn fixed<T: Copy, const N: usize>(
        &mut self,
        field: u32,
        values: &[T],
        bytes: fn(T) -> [u8; N],
    ) -> io::Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.head(field, values.len() * N)?;
        self.chunks(values, |v, buffer| buffer.extend(bytes(v)))
    }

    /// A packed field of numbers of variable size.
    fn varints<T: Copy>(&mut self, field: u32, values: &[T], bits: fn(T) -> u64) -> io::Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.head(field, values.iter().map(|v| varint_len(bits(*v))).sum())?;
        self.chunks(values, |v, buffer| put_varint(bits(v), buffer))
    }

    fn chunks<T: Copy>(&mut self, values: &[T], put: impl Fn(T, &mut Vec<u8>)) -> io::Result<()> {
        for chunk in values.chunks(CHUNK) {
            self.buffer.clear();
            for value in chunk {
                put(*value, &mut self.buffer);
            }
            self.out.write_all(&self.buffer)?;
        }
        Ok(())
    }

    /// Key and length in front of a delimited field.
    fn head(&mut self, field: u32, len: usize) -> io::Result<()> {
        self.buffer.clear();
        put_varint(u64::from(field << 3 | DELIMITED), &mut self.buffer);
        put_varint(len as u64, &mut self.buffer);
        self.out.write_all(&self.buffer)
    }
}

#[cfg(test)]
mod tests;
