//! Round trips of arbitrary models: streamed bytes are those of prost, however the messages
//! are taken apart, and decode to the same model.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::super::proto::*;
use super::*;

proptest! {
    #[test]
    fn streaming_writes_what_prost_writes(
        tape in proptest::collection::vec(any::<u8>(), 0..6000),
        light in prop_oneof![Just(0usize), 0usize..200],
    ) {
        let model = Tape::new(&tape).model();
        let expected = model.encode_to_vec();
        let mut streamed = Vec::new();
        Encoder::new(&mut streamed, light).model(&model)?;
        prop_assert!(streamed == expected, "bytes differ for {model:?}");
        prop_assert_eq!(ModelProto::decode(Bytes::from(streamed)), Ok(model));
    }
}

#[test]
fn every_field_survives_in_every_message() {
    // Ones make everything present, once.
    let mut tape = Tape::new(&[1; 1 << 20]);
    let model = tape.model();
    assert!(tape.bytes.len() > 0, "the tape is too short");
    let mut streamed = Vec::new();
    assert!(Encoder::new(&mut streamed, 0).model(&model).is_ok());
    assert_eq!(streamed, model.encode_to_vec());
    assert_eq!(ModelProto::decode(&*streamed), Ok(model));
}

#[test]
fn presence_survives_for_defaults_and_for_nothing() {
    let unset = TensorProto::default();
    let set = TensorProto {
        data_type: Some(0),
        name: Some(String::new()),
        raw_data: Some(Bytes::new()),
        data_location: Some(0),
        ..TensorProto::default()
    };
    assert_ne!(unset.encode_to_vec(), set.encode_to_vec());
    assert_eq!(TensorProto::decode(&*unset.encode_to_vec()), Ok(unset));
    assert_eq!(TensorProto::decode(&*set.encode_to_vec()), Ok(set));
}

#[test]
fn errors_of_the_stream_come_through() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let model = Tape::new(&[1; 1 << 20]).model();
    let error = encode_model(&model, &mut Full).map_err(|e| e.kind());
    assert_eq!(error, Err(io::ErrorKind::StorageFull));
}

/// A model made from bytes: each byte decides one thing, and after the last one everything is
/// absent, so that shorter tapes are simpler models.
struct Tape<'a> {
    bytes: std::slice::Iter<'a, u8>,
    depth: usize,
}

impl<'a> Tape<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let bytes = bytes.iter();
        Self { bytes, depth: 0 }
    }

    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    fn long(&mut self) -> u64 {
        // Mostly small, and the extremes of varints.
        match self.byte() {
            b @ 0..200 => u64::from(b),
            b @ 200..230 => 1 << (b % 64),
            b => (u64::from(b) << 40).wrapping_neg(),
        }
    }

    fn int(&mut self) -> i32 {
        self.long() as i32
    }

    fn text(&mut self) -> String {
        "aé\u{1f600}x"
            .chars()
            .cycle()
            .take(self.byte() as usize % 9)
            .collect()
    }

    fn blob(&mut self) -> Bytes {
        let len = self.byte() as usize % 90;
        (0..len).map(|i| i as u8).collect::<Vec<_>>().into()
    }

    /// A value or its absence.
    fn opt<T>(&mut self, make: fn(&mut Self) -> T) -> Option<T> {
        (self.byte() % 3 == 1).then(|| make(self))
    }

    fn many<T>(&mut self, make: fn(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 4).map(|_| make(self)).collect()
    }

    fn model(&mut self) -> ModelProto {
        ModelProto {
            ir_version: self.opt(|t| t.long() as i64),
            opset_import: self.many(Self::opset),
            producer_name: self.opt(Self::text),
            producer_version: self.opt(Self::text),
            domain: self.opt(Self::text),
            model_version: self.opt(|t| t.long() as i64),
            doc_string: self.opt(Self::text),
            graph: self.opt(Self::graph),
            metadata_props: self.many(Self::entry),
            training_info: self.many(Self::training),
            functions: self.many(Self::function),
            configuration: self.many(Self::configuration),
        }
    }

    fn opset(&mut self) -> OperatorSetIdProto {
        OperatorSetIdProto {
            domain: self.opt(Self::text),
            version: self.opt(|t| t.long() as i64),
        }
    }

    fn entry(&mut self) -> StringStringEntryProto {
        StringStringEntryProto {
            key: self.opt(Self::text),
            value: self.opt(Self::text),
        }
    }

    fn configuration(&mut self) -> DeviceConfigurationProto {
        DeviceConfigurationProto {
            name: self.opt(Self::text),
            num_devices: self.opt(Self::int),
            device: self.many(Self::text),
        }
    }

    fn training(&mut self) -> TrainingInfoProto {
        TrainingInfoProto {
            initialization: self.opt(Self::graph),
            algorithm: self.opt(Self::graph),
            initialization_binding: self.many(Self::entry),
            update_binding: self.many(Self::entry),
        }
    }

    fn function(&mut self) -> FunctionProto {
        FunctionProto {
            name: self.opt(Self::text),
            input: self.many(Self::text),
            output: self.many(Self::text),
            attribute: self.many(Self::text),
            attribute_proto: self.many(Self::attribute),
            node: self.many(Self::node),
            doc_string: self.opt(Self::text),
            opset_import: self.many(Self::opset),
            domain: self.opt(Self::text),
            overload: self.opt(Self::text),
            value_info: self.many(Self::value_info),
            metadata_props: self.many(Self::entry),
        }
    }

    fn graph(&mut self) -> GraphProto {
        GraphProto {
            node: self.many(Self::node),
            name: self.opt(Self::text),
            initializer: self.many(Self::tensor),
            sparse_initializer: self.many(Self::sparse),
            doc_string: self.opt(Self::text),
            input: self.many(Self::value_info),
            output: self.many(Self::value_info),
            value_info: self.many(Self::value_info),
            quantization_annotation: self.many(Self::annotation),
            metadata_props: self.many(Self::entry),
        }
    }

    fn annotation(&mut self) -> TensorAnnotation {
        TensorAnnotation {
            tensor_name: self.opt(Self::text),
            quant_parameter_tensor_names: self.many(Self::entry),
        }
    }

    fn value_info(&mut self) -> ValueInfoProto {
        ValueInfoProto {
            name: self.opt(Self::text),
            r#type: self.opt(Self::type_proto),
            doc_string: self.opt(Self::text),
            metadata_props: self.many(Self::entry),
        }
    }

    fn node(&mut self) -> NodeProto {
        NodeProto {
            input: self.many(Self::text),
            output: self.many(Self::text),
            name: self.opt(Self::text),
            op_type: self.opt(Self::text),
            domain: self.opt(Self::text),
            overload: self.opt(Self::text),
            attribute: self.many(Self::attribute),
            doc_string: self.opt(Self::text),
            metadata_props: self.many(Self::entry),
            device_configurations: self.many(Self::placement),
        }
    }

    fn placement(&mut self) -> NodeDeviceConfigurationProto {
        NodeDeviceConfigurationProto {
            configuration_id: self.opt(Self::text),
            sharding_spec: self.many(|t| ShardingSpecProto {
                tensor_name: t.opt(Self::text),
                device: t.many(|t| t.long() as i64),
                index_to_device_group_map: t.many(|t| IntIntListEntryProto {
                    key: t.opt(|t| t.long() as i64),
                    value: t.many(|t| t.long() as i64),
                }),
                sharded_dim: t.many(|t| ShardedDimProto {
                    axis: t.opt(|t| t.long() as i64),
                    simple_sharding: t.many(|t| SimpleShardedDimProto {
                        num_shards: t.opt(|t| t.long() as i64),
                        dim: t.opt(|t| match t.byte() % 2 {
                            0 => simple_sharded_dim_proto::Dim::DimValue(t.long() as i64),
                            _ => simple_sharded_dim_proto::Dim::DimParam(t.text()),
                        }),
                    }),
                }),
            }),
            pipeline_stage: self.opt(Self::int),
        }
    }

    fn attribute(&mut self) -> AttributeProto {
        let nested = self.depth < 2;
        self.depth += 1;
        let attribute = AttributeProto {
            name: self.opt(Self::text),
            ref_attr_name: self.opt(Self::text),
            doc_string: self.opt(Self::text),
            r#type: self.opt(Self::int),
            f: self.opt(|t| f32::from(t.byte())),
            i: self.opt(|t| t.long() as i64),
            s: self.opt(Self::blob),
            t: self.opt(Self::tensor),
            g: self.opt(if nested { Self::graph } else { Self::leaf }),
            sparse_tensor: self.opt(Self::sparse),
            tp: self.opt(Self::type_proto),
            floats: self.many(|t| f32::from(t.byte())),
            ints: self.many(|t| t.long() as i64),
            strings: self.many(Self::blob),
            tensors: self.many(Self::tensor),
            graphs: self.many(if nested { Self::graph } else { Self::leaf }),
            sparse_tensors: self.many(Self::sparse),
            type_protos: self.many(Self::type_proto),
        };
        self.depth -= 1;
        attribute
    }

    /// A graph in which nothing nests further.
    fn leaf(&mut self) -> GraphProto {
        GraphProto {
            node: vec![NodeProto {
                attribute: Vec::new(),
                ..NodeProto::default()
            }],
            ..GraphProto::default()
        }
    }

    fn sparse(&mut self) -> SparseTensorProto {
        SparseTensorProto {
            values: self.opt(Self::tensor),
            indices: self.opt(Self::tensor),
            dims: self.many(|t| t.long() as i64),
        }
    }

    fn tensor(&mut self) -> TensorProto {
        TensorProto {
            dims: self.many(|t| t.long() as i64),
            data_type: self.opt(Self::int),
            segment: self.opt(|t| tensor_proto::Segment {
                begin: t.opt(|t| t.long() as i64),
                end: t.opt(|t| t.long() as i64),
            }),
            float_data: self.many(|t| f32::from(t.byte())),
            int32_data: self.many(Self::int),
            string_data: self.many(Self::blob),
            int64_data: self.many(|t| t.long() as i64),
            name: self.opt(Self::text),
            doc_string: self.opt(Self::text),
            raw_data: self.opt(Self::blob),
            external_data: self.many(Self::entry),
            data_location: self.opt(Self::int),
            double_data: self.many(|t| f64::from(t.byte())),
            uint64_data: self.many(Self::long),
            metadata_props: self.many(Self::entry),
        }
    }

    fn type_proto(&mut self) -> TypeProto {
        use type_proto::{Map, Opaque, Optional, Sequence, SparseTensor, Tensor, Value};
        TypeProto {
            denotation: self.opt(Self::text),
            value: self.opt(|t| match t.byte() % 6 {
                0 => Value::SequenceType(Box::new(Sequence {
                    elem_type: t.opt(Self::element),
                })),
                1 => Value::TensorType(Tensor {
                    elem_type: t.opt(Self::int),
                    shape: t.opt(Self::shape),
                }),
                2 => Value::MapType(Box::new(Map {
                    key_type: t.opt(Self::int),
                    value_type: t.opt(Self::element),
                })),
                3 => Value::OptionalType(Box::new(Optional {
                    elem_type: t.opt(Self::element),
                })),
                4 => Value::SparseTensorType(SparseTensor {
                    elem_type: t.opt(Self::int),
                    shape: t.opt(Self::shape),
                }),
                _ => Value::OpaqueType(Opaque {
                    domain: t.opt(Self::text),
                    name: t.opt(Self::text),
                }),
            }),
        }
    }

    fn element(&mut self) -> Box<TypeProto> {
        let tensor = type_proto::Tensor {
            elem_type: self.opt(Self::int),
            shape: self.opt(Self::shape),
        };
        Box::new(TypeProto {
            denotation: self.opt(Self::text),
            value: Some(type_proto::Value::TensorType(tensor)),
        })
    }

    fn shape(&mut self) -> TensorShapeProto {
        use tensor_shape_proto::Dimension;
        use tensor_shape_proto::dimension::Value;
        TensorShapeProto {
            dim: self.many(|t| Dimension {
                denotation: t.opt(Self::text),
                value: t.opt(|t| match t.byte() % 2 {
                    0 => Value::DimValue(t.long() as i64),
                    _ => Value::DimParam(t.text()),
                }),
            }),
        }
    }
}
