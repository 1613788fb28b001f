//! The protobuf wire format below the generated types: why decoding failed, and what it dropped.

use std::ops::ControlFlow;

/// Per message its name and, per field, the number and the index of the message it holds.
type FieldTable = &'static [(&'static str, &'static [(u32, Option<usize>)])];

static MESSAGES: FieldTable = include!(concat!(env!("OUT_DIR"), "/onnx_fields.rs"));

const MODEL: &str = "onnx.ModelProto";

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED32: u64 = 5;

/// How the top level of a byte string looks to a reader that expects a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outline {
    /// A sequence of fields that a model has.
    Whole,
    /// Such a sequence, but the last field needs a file of this many bytes.
    Short { needed: u64 },
    /// Something else.
    Foreign,
}

/// Looks at the top-level fields only.
pub(super) fn outline(bytes: &[u8]) -> Outline {
    let Some(model) = message_index(MODEL) else {
        return Outline::Foreign;
    };
    let mut reader = Reader { bytes, at: 0 };
    while reader.at < bytes.len() {
        match reader.field() {
            Ok(field) if is_known(model, field.number) => {}
            Ok(_) => return Outline::Foreign,
            Err(Stop::Short { number, needed }) => {
                let plausible = number.is_none_or(|n| is_known(model, n));
                let started = reader.at > 0 || number.is_some();
                return if plausible && started {
                    Outline::Short { needed }
                } else {
                    Outline::Foreign
                };
            }
            Err(Stop::Invalid) => return Outline::Foreign,
        }
    }
    Outline::Whole
}

/// The first field of an encoded model that the schema does not have, as message and number.
///
/// Decoding drops such fields. `None` also for bytes that do not decode.
pub(super) fn unknown_field(bytes: &[u8]) -> Option<(&'static str, u32)> {
    find_unknown(bytes, message_index(MODEL)?).break_value()
}

fn find_unknown(bytes: &[u8], message: usize) -> ControlFlow<(&'static str, u32)> {
    let mut reader = Reader { bytes, at: 0 };
    while let Ok(field) = reader.field() {
        let (name, fields) = MESSAGES[message];
        match fields.iter().find(|(number, _)| *number == field.number) {
            None => return ControlFlow::Break((name, field.number)),
            Some((_, Some(child))) => find_unknown(field.body, *child)?,
            Some((_, None)) => {}
        }
    }
    ControlFlow::Continue(())
}

fn message_index(name: &str) -> Option<usize> {
    MESSAGES.iter().position(|(n, _)| *n == name)
}

fn is_known(message: usize, number: u32) -> bool {
    MESSAGES[message].1.iter().any(|(n, _)| *n == number)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

struct Field<'a> {
    number: u32,
    /// Contents of a delimited field, else empty.
    body: &'a [u8],
}

enum Stop {
    /// The bytes end inside a field, whose number may be known.
    Short {
        number: Option<u32>,
        needed: u64,
    },
    Invalid,
}

impl<'a> Reader<'a> {
    /// Moves past one field. At the end of the bytes it is `Short`.
    fn field(&mut self) -> Result<Field<'a>, Stop> {
        let key = self.varint(None)?;
        let number = u32::try_from(key >> 3).map_err(|_| Stop::Invalid)?;
        if number == 0 {
            return Err(Stop::Invalid);
        }
        let len = match key & 7 {
            VARINT => {
                self.varint(Some(number))?;
                0
            }
            FIXED64 => 8,
            FIXED32 => 4,
            DELIMITED => self.varint(Some(number))?,
            // Groups are long gone from protobuf and never were in ONNX.
            GROUP_START | GROUP_END => return Err(Stop::Invalid),
            _ => return Err(Stop::Invalid),
        };
        let body = self.take(number, len)?;
        let body = if key & 7 == DELIMITED { body } else { &[] };
        Ok(Field { number, body })
    }

    fn take(&mut self, number: u32, len: u64) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
            Some(body) => {
                self.at += body.len();
                Ok(body)
            }
            None => Err(Stop::Short {
                number: Some(number),
                needed: (self.at as u64).saturating_add(len),
            }),
        }
    }

    fn varint(&mut self, number: Option<u32>) -> Result<u64, Stop> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.bytes.get(self.at) else {
                return Err(Stop::Short {
                    number,
                    needed: self.at as u64 + 1,
                });
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Stop::Invalid)
    }
}

/// Appends `value` in the variable-length encoding.
pub(super) fn put_varint(mut value: u64, buffer: &mut Vec<u8>) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

/// Bytes that [`put_varint`] takes.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_tell_whole_short_and_foreign() {
        assert_eq!(outline(&[0x08, 0x07]), Outline::Whole);
        assert_eq!(
            outline(&[0x08, 0x07, 0x3a, 0x05, 0]),
            Outline::Short { needed: 9 }
        );
        assert_eq!(outline(&[0x08, 0x07, 0x3a]), Outline::Short { needed: 4 });
        assert_eq!(outline(b"\x89PNG\r\n"), Outline::Foreign);
        assert_eq!(outline(b"{\"json\": 1}"), Outline::Foreign);
    }

    #[test]
    fn unknown_fields_are_found_at_any_depth() {
        assert_eq!(unknown_field(&[0x08, 0x07, 0x3a, 2, 0x0a, 0]), None);
        let graph_field_99 = [0x3a, 3, 0x98, 0x06, 0];
        assert_eq!(
            unknown_field(&graph_field_99),
            Some(("onnx.GraphProto", 99))
        );
    }

    #[test]
    fn varints_have_the_length_announced() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut buffer = Vec::new();
                put_varint(value, &mut buffer);
                assert_eq!(buffer.len(), varint_len(value), "{value}");
            }
        }
    }
}
