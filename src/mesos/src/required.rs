//! Whether an encoded message has all that it must have: prost takes what lacks a required field, the original's parser
//! (proto2's) refuses it.
//!
//! What must be there, [`Shape`] says of every message; `build/json.rs` writes it down.

/// Whether a number is one of an enum's.
type Knows = fn(i32) -> bool;

/// How a message is told of where messages contain themselves.
type Of = fn() -> &'static Shape;

/// What a message must have, and which of its fields are messages themselves.
#[derive(Debug)]
pub struct Shape {
    /// Numbers of required fields.
    pub required: &'static [u32],
    /// Required fields that are enums, with what they may be: a number that is not known is none.
    pub enums: &'static [(u32, Knows)],
    /// Fields that are messages.
    pub messages: &'static [(u32, Of)],
}

/// A message that knows its shape. Implemented for every message by generated code.
pub trait Shaped {
    /// Its shape.
    fn shape() -> &'static Shape;
}

impl<T: Shaped> Shaped for Box<T> {
    fn shape() -> &'static Shape {
        T::shape()
    }
}

impl Shaped for prost_types::Duration {
    fn shape() -> &'static Shape {
        &Shape { required: &[], enums: &[], messages: &[] }
    }
}

/// Whether `encoded`, which is a message of type `M`, has all that it must have, down to the last message in it.
pub fn is_complete<M: Shaped>(encoded: &[u8]) -> bool {
    // What isn't the encoding of a message at all lacks everything.
    complete(encoded, M::shape(), 0).unwrap_or(false)
}

/// Deeper than this nothing is decoded either.
const DEPTH_MAX: u32 = 100;

/// `None` where the encoding ends early or makes no sense.
fn complete(mut rest: &[u8], shape: &Shape, depth: u32) -> Option<bool> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut missing: u64 = 0;
    // No message has as many required fields as there are bits.
    let bit = |number: u32| {
        shape.required.iter().position(|own| *own == number).map(|index| 1 << (index % 64))
    };
    for number in shape.required {
        missing |= bit(*number).unwrap_or_default();
    }
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let number = u32::try_from(key >> 3).ok()?;
        let mut found = true;
        match key & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if let Some((_, knows)) = shape.enums.iter().find(|(own, _)| *own == number) {
                    // An enum's number is written as 64 bits, of which 32 count.
                    found = knows(value as i32);
                }
            }
            1 => drop(take(&mut rest, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let inner = take(&mut rest, length)?;
                if let Some((_, of)) = shape.messages.iter().find(|(own, _)| *own == number)
                    && !complete(inner, of(), depth + 1)?
                {
                    return Some(false);
                }
            }
            5 => drop(take(&mut rest, 4)?),
            // Groups: Mesos has none.
            _ => return None,
        }
        if found {
            missing &= !bit(number).unwrap_or_default();
        }
    }
    Some(missing == 0)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::scheduler::{Call, call};
    use crate::v1::{self, offer::Operation};
    use prost::Message as _;

    #[test]
    fn what_lacks_a_required_field_is_not_complete() {
        let kill = Call { r#type: Some(call::Type::Kill as i32), ..Default::default() };
        assert!(is_complete::<Call>(&kill.encode_to_vec()));
        let mut bytes = kill.encode_to_vec();
        // A `kill` (field 6) without its task.
        bytes.extend([6 << 3 | 2, 0]);
        assert!(Call::decode(&*bytes).is_ok());
        assert!(!is_complete::<Call>(&bytes));
        let kill = Call { kill: Some(call::Kill::default()), ..kill };
        assert!(is_complete::<Call>(&kill.encode_to_vec()), "prost writes what must be there");
    }

    #[test]
    fn an_enum_that_must_be_there_is_one_that_is_known() {
        let resource = v1::Resource { name: "cpus".to_owned(), ..Default::default() };
        assert!(is_complete::<v1::Resource>(&resource.encode_to_vec()));
        let resource = v1::Resource { r#type: 99, ..resource };
        assert!(!is_complete::<v1::Resource>(&resource.encode_to_vec()));
        // Inside others, in lists and in maps.
        let reserve =
            v1::offer::operation::Reserve { resources: vec![resource], ..Default::default() };
        let operation = Operation { reserve: Some(reserve), ..Default::default() };
        assert!(!is_complete::<Operation>(&operation.encode_to_vec()));
        let limits = [("cpus".to_owned(), v1::value::Scalar { value: 1.0 })];
        let task = v1::TaskInfo { limits: limits.into(), ..Default::default() };
        let mut bytes = task.encode_to_vec();
        assert!(is_complete::<v1::TaskInfo>(&bytes));
        let at = bytes.windows(9).rposition(|window| window == [9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        // The scalar's field 1 becomes a field 2, which it does not have.
        bytes[at.unwrap()] = 17;
        assert!(!is_complete::<v1::TaskInfo>(&bytes));
    }

    #[test]
    fn what_is_cut_off_or_nested_without_end_is_not_complete() {
        let call = Call { kill: Some(call::Kill::default()), ..Default::default() };
        let bytes = call.encode_to_vec();
        for end in 1..bytes.len() {
            assert!(!is_complete::<Call>(&bytes[..end]), "{end}");
        }
        assert!(!is_complete::<Call>(&[0xff; 20]));
    }
}
