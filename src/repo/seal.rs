//! Seals: keyed hashes (HMAC with SHA-256, RFC 2104) by which this installation recognises a text
//! that it wrote itself. Agents and checks can write to the repository, but they are not given the
//! key. In the sandbox, they cannot read its file either.

use std::fmt;

use anyhow::{Context as _, Result};

/// The block size of SHA-256 in bytes.
const BLOCK: usize = 64;

/// The length of a key in bytes.
const LENGTH: usize = 32;

/// The secret key of one copy of a repository on one machine.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealKey([u8; LENGTH]);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

impl SealKey {
    /// Parses 64 hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * LENGTH || !text.trim().is_ascii() {
            return None;
        }
        let mut key = [0; LENGTH];
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(key))
    }

    /// Returns the key as hexadecimal digits.
    pub(crate) fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the id of the key: 16 hexadecimal digits that do not reveal the key.
    pub(crate) fn id(&self) -> Result<String> {
        let mut id = self.seal("key", &[])?;
        id.truncate(16);
        Ok(id)
    }

    /// Returns the seal of a text, in hexadecimal digits. `kind` keeps texts of different meanings
    /// apart. The boundaries between the parts count.
    pub(crate) fn seal(&self, kind: &str, parts: &[&[u8]]) -> Result<String> {
        let pad = |byte: u8| {
            let mut block = [byte; BLOCK];
            block.iter_mut().zip(self.0).for_each(|(pad, key)| *pad ^= key);
            block
        };
        let mut inner = hasher();
        inner.update(&pad(0x36));
        for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
            inner.update(&(part.len() as u64).to_le_bytes());
            inner.update(part);
        }
        let inner = inner.try_finalize().context("cannot hash with SHA-256")?;
        let mut outer = hasher();
        outer.update(&pad(0x5c));
        outer.update(inner.as_slice());
        Ok(outer.try_finalize().context("cannot hash with SHA-256")?.to_string())
    }

    /// Returns true if a seal is that of the text.
    pub(crate) fn has_sealed(&self, kind: &str, parts: &[&[u8]], seal: &str) -> bool {
        self.seal(kind, parts).is_ok_and(|own| {
            // All bytes are compared, so that the time does not tell how many are right.
            let differ = own.bytes().zip(seal.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
            own.len() == seal.len() && differ == 0
        })
    }
}

fn hasher() -> gix::hash::Hasher {
    gix::hash::hasher(gix::hash::Kind::Sha256)
}

#[cfg(test)]
mod tests {
    use super::SealKey;

    #[test]
    fn seal_depends_on_key_kind_and_boundaries() {
        let key = SealKey::from_hex(&"0b".repeat(32)).unwrap();
        let seal = key.seal("kind", &[b"ab", b"c"]).unwrap();
        assert_eq!(seal.len(), 64);
        assert!(key.has_sealed("kind", &[b"ab", b"c"], &seal));
        assert!(!key.has_sealed("kind", &[b"a", b"bc"], &seal));
        assert!(!key.has_sealed("kin", &[b"dab", b"c"], &seal));
        assert!(!key.has_sealed("kind", &[b"ab", b"c"], &seal[..63]));
        assert!(!key.has_sealed("kind", &[b"ab", b"c"], ""));
        let other = SealKey::from_hex(&"0c".repeat(32)).unwrap();
        assert!(!other.has_sealed("kind", &[b"ab", b"c"], &seal));
    }

    #[test]
    fn key_is_read_from_its_digits_only() {
        let key = SealKey::from_hex(&"a5".repeat(32)).unwrap();
        assert_eq!(SealKey::from_hex(&format!("{}\n", key.to_hex())), Some(key.clone()));
        for text in ["", "a5", &"g5".repeat(32), &"é".repeat(32)] {
            assert_eq!(SealKey::from_hex(text), None, "{text}");
        }
        assert!(!format!("{key:?}").contains("a5"));
    }
}
