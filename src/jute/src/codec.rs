//! Jute's primitives.

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("record ends too early")]
    Short,
    /// A length below −1 or beyond the input.
    #[error("unreasonable length = {0}")]
    Length(i32),
    /// An operation or a mode that can't be where it is.
    #[error("{0} can't be here")]
    Kind(i32),
}

/// Reads primitives from a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A byte that is not 0 is true.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        Ok(self.array::<1>()?[0] != 0)
    }

    /// 4 bytes.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn int(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// 8 bytes.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn long(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A length and that many bytes; `None` for null.
    ///
    /// # Errors
    /// When the length is not reasonable.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = self.int()?;
        match usize::try_from(length) {
            Ok(count) if count <= self.rest.len() => self.take(count).map(Some),
            Err(_) if length == -1 => Ok(None),
            _ => Err(DecodeError::Length(length)),
        }
    }

    /// A buffer that is text; what is not UTF-8 is replaced, as Java reads it. Null reads as empty.
    ///
    /// # Errors
    /// When the length is not reasonable.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        Ok(self
            .buffer()?
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default())
    }

    /// A count and that many items, each of at least one byte; null reads as `None`.
    ///
    /// # Errors
    /// When the count is not reasonable, or an item can't be read.
    pub fn vector<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let count = self.int()?;
        if count == -1 {
            return Ok(None);
        }
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.rest.len())
            .ok_or(DecodeError::Length(count))?;
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }
}

/// Writes primitives.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// What is in the buffer is kept in front.
impl From<Vec<u8>> for Writer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One byte, 0 or 1.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.bytes.push(u8::from(value));
        self
    }

    /// 4 bytes.
    pub fn int(&mut self, value: i32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// 8 bytes.
    pub fn long(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Length and bytes, or −1 for null.
    pub fn buffer(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            None => self.int(-1),
            Some(bytes) => {
                self.int(bytes.len() as i32);
                self.bytes.extend_from_slice(bytes);
                self
            }
        }
    }

    /// Text.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.buffer(Some(value.as_bytes()))
    }

    /// Count and items.
    pub fn vector<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.int(items.len() as i32);
        for item in items {
            write(self, item);
        }
        self
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn primitives_round_trip(int: i32, long: i64, data in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), text in ".{0,20}") {
            let mut writer = Writer::new();
            writer.int(int).long(long).buffer(data.as_deref()).string(&text).vector(&[1, 2], |writer, item| { writer.int(*item); });
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.int(), Ok(int));
            prop_assert_eq!(reader.long(), Ok(long));
            prop_assert_eq!(reader.buffer(), Ok(data.as_deref()));
            prop_assert_eq!(reader.string(), Ok(text));
            prop_assert_eq!(reader.vector(Reader::int), Ok(Some(vec![1, 2])));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn nothing_panics_on_any_input(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.vector(Reader::string);
            let _ = reader.buffer();
            let _ = crate::request::Request::decode(&bytes);
            let _ = crate::txn::Entry::decode(&bytes);
        }
    }

    #[test]
    fn unreasonable_lengths_are_refused_without_reserving_them() {
        assert_eq!(
            Reader::new(&[0x7f, 0xff, 0xff, 0xff]).buffer(),
            Err(DecodeError::Length(i32::MAX))
        );
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xfe]).buffer(), Err(DecodeError::Length(-2)));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff]).buffer(), Ok(None));
        assert_eq!(
            Reader::new(&[0x7f, 0xff, 0xff, 0xff]).vector(Reader::int),
            Err(DecodeError::Length(i32::MAX))
        );
    }
}
