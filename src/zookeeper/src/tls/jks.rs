//! Java's own key stores (`sun.security.provider.JavaKeyStore`), read only.
//!
//! Magic `FEEDFEED`, a version, then entries: a key with its chain, or a certificate that is trusted. Behind them is a
//! SHA-1 over password and everything before. A key is hidden under a SHA-1 key stream of the same password
//! (`KeyProtector`).

use pkcs8::der::Decode as _;
use pkcs8::der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use sha1::{Digest as _, Sha1};

/// What such a file begins with.
pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];

const HASH: usize = 20;
const KEY_PROTECTOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.42.2.17.1.1");

/// An entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A private key in PKCS#8, and the certificates that belong to it, the owner's first.
    Key(Vec<u8>, Vec<Vec<u8>>),
    /// A certificate that is trusted.
    Trusted(Vec<u8>),
}

/// Reads a store.
///
/// # Errors
/// What is wrong with file or password.
pub(super) fn read(file: &[u8], password: &str) -> Result<Vec<Entry>, String> {
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let (content, seal) = file.split_last_chunk::<HASH>().ok_or("it is cut off")?;
    let mut hash = Sha1::new();
    hash.update(&password);
    hash.update(b"Mighty Aphrodite");
    hash.update(content);
    if hash.finalize().as_slice() != seal {
        return Err("the password is wrong, or the file is damaged".to_owned());
    }
    let mut reader = Reader(content.strip_prefix(&MAGIC).ok_or("it is no Java key store")?);
    let version = reader.int()?;
    if !(1..=2).contains(&version) {
        return Err(format!("its version is {version}"));
    }
    let mut entries = Vec::new();
    for _ in 0..reader.int()? {
        let kind = reader.int()?;
        reader.text()?;
        reader.take(8)?;
        entries.push(match kind {
            1 => {
                let hidden = reader.block()?;
                let mut chain = Vec::new();
                for _ in 0..reader.int()? {
                    chain.push(reader.certificate(version)?);
                }
                Entry::Key(unhide(hidden, &password)?, chain)
            }
            2 => Entry::Trusted(reader.certificate(version)?),
            other => return Err(format!("an entry is of kind {other}")),
        });
    }
    Ok(entries)
}

/// `KeyProtector.recover`.
fn unhide(info: &[u8], password: &[u8]) -> Result<Vec<u8>, String> {
    let hidden = protected(info).ok_or("a key is protected in a way that isn't Java's")?;
    let (salt, rest) = hidden.split_first_chunk::<HASH>().ok_or("a key is cut off")?;
    let (cipher, seal) = rest.split_last_chunk::<HASH>().ok_or("a key is cut off")?;
    let (mut block, mut key) = (salt.to_vec(), Vec::with_capacity(cipher.len()));
    for part in cipher.chunks(HASH) {
        block = Sha1::digest([password, &block].concat()).to_vec();
        key.extend(part.iter().zip(&block).map(|(byte, mask)| byte ^ mask));
    }
    if Sha1::digest([password, &key].concat()).as_slice() == seal {
        Ok(key)
    } else {
        Err("a key has another password than the store".to_owned())
    }
}

/// The octets of an `EncryptedPrivateKeyInfo` whose algorithm is Java's.
fn protected(info: &[u8]) -> Option<&[u8]> {
    use pkcs8::der::{Reader as _, SliceReader};
    let outer = AnyRef::from_der(info).ok()?;
    let mut reader = SliceReader::new(outer.value()).ok()?;
    let algorithm: AnyRef<'_> = reader.decode().ok()?;
    let octets: &OctetStringRef = reader.decode().ok()?;
    let number: ObjectIdentifier = SliceReader::new(algorithm.value()).ok()?.decode().ok()?;
    (number == KEY_PROTECTOR).then(|| octets.as_bytes())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn block(&mut self) -> Result<&'a [u8], String> {
        let length = self.int()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Result<&'a [u8], String> {
        let length = self.take(2)?;
        self.take(usize::from(length[0]) << 8 | usize::from(length[1]))
    }

    fn certificate(&mut self, version: u32) -> Result<Vec<u8>, String> {
        // The first version had only X.509 and did not say so.
        if version == 2 && self.text()? != b"X.509" {
            return Err("a certificate isn't of X.509".to_owned());
        }
        self.block().map(<[u8]>::to_vec)
    }
}
