//! The frame: a big-endian `u32` length, then a body of one protobuf message.
//!
//! Invariants:
//! - A [`Decoder`] never holds more than one frame beyond what it was fed, and never allocates for a length before the
//!   bytes are there: a header that announces 4 GiB costs nothing.
//! - After an error a decoder yields nothing more: the connection is to be closed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::limits::FRAME_LEN_MAX;

const HEADER_LEN: usize = 4;

/// Why a stream of bytes is not a stream of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// A header with a length of zero or over [`FRAME_LEN_MAX`].
    Length(u32),
    /// A body that is no message of the expected type.
    Body(String),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::Length(0) => {
                f.write_str("a frame of length 0: this is no Phalanx protocol")
            }
            FrameError::Length(len) => write!(
                f,
                "a frame of {len} bytes, over the limit of {FRAME_LEN_MAX}: this is no Phalanx protocol, or a \
                 request that is too large"
            ),
            FrameError::Body(what) => write!(f, "a frame that cannot be read: {what}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends `message` as one frame to `out`.
///
/// # Panics
/// If the message is longer than [`FRAME_LEN_MAX`]: whoever builds messages keeps them within their limits.
pub fn encode(message: &impl Message, out: &mut BytesMut) {
    let len = message.encoded_len();
    assert!(len <= FRAME_LEN_MAX, "a frame of {len} bytes was built, over the limit");
    out.reserve(HEADER_LEN + len);
    out.put_u32(len as u32);
    message.encode(out).expect("the space was reserved");
}

/// Cuts a stream of bytes into frames.
///
/// ```
/// use bytes::BytesMut;
/// use phalanx::wire::{client::{ClientFrame, client_frame::Frame, Request}, frame};
///
/// let sent = ClientFrame { frame: Some(Frame::Request(Request { id: 7, ..Default::default() })) };
/// let mut bytes = BytesMut::new();
/// frame::encode(&sent, &mut bytes);
///
/// let mut decoder = frame::Decoder::default();
/// decoder.feed(&bytes[..3]);
/// assert_eq!(decoder.next_frame::<ClientFrame>(), Ok(None));
/// decoder.feed(&bytes[3..]);
/// assert_eq!(decoder.next_frame::<ClientFrame>(), Ok(Some(sent)));
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    failed: Option<FrameError>,
}

impl Decoder {
    /// Adds bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame, `None` if more bytes are needed.
    pub fn next_frame<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.cut().and_then(|body| {
            body.map(|body| M::decode(body).map_err(|e| FrameError::Body(e.to_string())))
                .transpose()
        });
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.buffer = BytesMut::new();
        }
        result
    }

    /// Bytes that are held and not yet yielded.
    pub fn pending_len(&self) -> usize {
        self.buffer.len()
    }

    fn cut(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let announced = u32::from_be_bytes(*header);
        let len = announced as usize;
        if len == 0 || len > FRAME_LEN_MAX {
            return Err(FrameError::Length(announced));
        }
        if self.buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        self.buffer.advance(HEADER_LEN);
        let body = self.buffer.split_to(len).freeze();
        if self.buffer.is_empty() {
            // Idle connections hold no memory.
            self.buffer = BytesMut::new();
        }
        Ok(Some(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::client::{ClientFrame, Get, Request, client_frame, request};

    fn frame(id: u64) -> ClientFrame {
        let command = request::Command::Get(Get { key: Bytes::from_static(b"k"), stale: false });
        ClientFrame {
            frame: Some(client_frame::Frame::Request(Request {
                id,
                timeout_ms: 1,
                command: Some(command),
            })),
        }
    }

    #[test]
    fn frames_survive_any_cut() {
        let mut bytes = BytesMut::new();
        for id in 1..=3 {
            encode(&frame(id), &mut bytes);
        }
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                decoder.feed(part);
                while let Some(frame) = decoder.next_frame::<ClientFrame>().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, [frame(1), frame(2), frame(3)], "cut at {cut}");
            assert_eq!(decoder.pending_len(), 0);
        }
    }

    #[test]
    fn a_length_of_4_gib_is_refused_at_its_header() {
        let mut decoder = Decoder::default();
        decoder.feed(&[0xff; 4]);
        assert_eq!(decoder.next_frame::<ClientFrame>(), Err(FrameError::Length(u32::MAX)));
        decoder.feed(&[0; 4096]);
        assert_eq!(decoder.pending_len(), 0, "nothing is kept after an error");
        assert_eq!(decoder.next_frame::<ClientFrame>(), Err(FrameError::Length(u32::MAX)));
    }

    #[test]
    fn http_on_the_wrong_port_is_told_apart() {
        let mut decoder = Decoder::default();
        decoder.feed(b"GET / HTTP/1.1\r\n\r\n");
        assert!(matches!(decoder.next_frame::<ClientFrame>(), Err(FrameError::Length(_))));
    }

    #[test]
    fn a_body_that_is_no_message_is_an_error() {
        let mut decoder = Decoder::default();
        decoder.feed(&[0, 0, 0, 3, 0xff, 0xff, 0xff]);
        assert!(matches!(decoder.next_frame::<ClientFrame>(), Err(FrameError::Body(_))));
    }
}
