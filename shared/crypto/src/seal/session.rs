//! What follows an envelope: frames both ways, a key per direction, a counter per frame.
//!
//! The nonce of a frame is its number. A key is exported from one HPKE context and used in one
//! direction by one [`Sealer`], which cannot be cloned: no key meets a nonce twice. Frames open in
//! the order sent; one that is lost, repeated or moved ends the stream.

use bytes::Bytes;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::AeadInPlace as _};
use zeroize::Zeroizing;

use super::{
    SealError,
    padding::{pad, padded, unpad},
};

/// Bytes of an authentication tag.
pub(super) const TAG: usize = 16;
/// Bytes that a frame adds to its padded content.
pub const FRAME_OVERHEAD: usize = TAG;
/// Most bytes of content of a frame.
const MAX_CONTENT: usize = 1 << 26;

/// Seals frames of one direction, in order.
pub struct Sealer {
    cipher: ChaCha20Poly1305,
    next: u64,
}

/// Opens frames of one direction, in order.
pub struct Opener {
    cipher: ChaCha20Poly1305,
    next: u64,
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

impl Sealer {
    pub(super) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self { cipher: ChaCha20Poly1305::new((&*key).into()), next: 0 }
    }

    /// Length of the frame of `content` bytes.
    pub fn frame_len(content: usize) -> usize {
        padded(content.saturating_add(super::padding::PREFIX)).saturating_add(FRAME_OVERHEAD)
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`SealError::Length`] over 64 MiB; [`SealError::Key`] once 2^64 − 1 frames are sealed.
    pub fn seal(&mut self, content: &[u8]) -> Result<Bytes, SealError> {
        if content.len() > MAX_CONTENT {
            return Err(SealError::Length { got: content.len(), max: MAX_CONTENT });
        }
        let number = self.next;
        // Counted before use: whatever happens below, this nonce does not come again.
        self.next = number.checked_add(1).ok_or(SealError::Key)?;
        let length = SealError::Length { got: content.len(), max: MAX_CONTENT };
        let mut frame = pad(content).ok_or(length)?;
        let nonce = nonce(number);
        self.cipher
            .encrypt_in_place((&nonce).into(), b"", &mut frame)
            .map_err(|_| SealError::Key)?;
        Ok(frame.into())
    }
}

impl Opener {
    pub(super) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self { cipher: ChaCha20Poly1305::new((&*key).into()), next: 0 }
    }

    /// The content of the next frame.
    ///
    /// # Errors
    /// [`SealError::Refused`] for anything but the very frame that was sealed next; the opener stays
    /// where it was.
    pub fn open(&mut self, frame: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut plain = Vec::with_capacity(frame.len());
        plain.extend_from_slice(frame);
        let nonce = nonce(self.next);
        self.cipher
            .decrypt_in_place((&nonce).into(), b"", &mut plain)
            .map_err(|_| SealError::Refused)?;
        let content = unpad(plain).ok_or(SealError::Refused)?;
        self.next = self.next.checked_add(1).ok_or(SealError::Refused)?;
        Ok(Zeroizing::new(content))
    }
}

#[cfg(test)]
impl Sealer {
    /// The nonce of the next frame, for the test that none comes twice.
    pub(super) fn next_nonce(&self) -> [u8; 12] {
        nonce(self.next)
    }

    pub(super) fn jump(&mut self, next: u64) {
        self.next = next;
    }
}
