//! Frames of clients, servers and peers out of a stream of bytes, however it was cut.
//!
//! What must hold:
//! - The same bytes give the same frames and the same error, fed at once or in pieces.
//! - A decoder holds no more than it was fed, and nothing after an error.
//! - A frame that was read is, written and read again, the same frame, unless all of it was unknown.
//! - The checks at the door let nothing pass that is over its limit.
//!
//! An input: a byte for the kind of frame and for what the rest is (a stream as it stands, or bodies that get a right
//! length in front), a byte for the cuts, the rest.

use std::fmt::Debug;

use bytes::{BufMut, BytesMut};
use prost::Message;

use phalanx::limits::{KEY_LEN_MAX, WRITE_LEN_MAX};
use phalanx::wire::client::{ClientFrame, ServerFrame, client_frame, request};
use phalanx::wire::frame::{self, Decoder, FrameError};
use phalanx::wire::peer::{PeerFrame, forward, peer_frame};
use phalanx::wire::validate;

use super::input::Input;

const BODIES: u8 = 0x80;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let cuts = input.u8();
    let stream = if kind & BODIES != 0 { framed(input) } else { input.rest().to_vec() };
    match kind % 3 {
        0 => check::<ClientFrame>(&stream, cuts, at_the_door),
        1 => check::<ServerFrame>(&stream, cuts, |_| ()),
        _ => check::<PeerFrame>(&stream, cuts, forwarded),
    }
}

/// Frames with these bodies.
fn framed(mut input: Input<'_>) -> Vec<u8> {
    let mut stream = BytesMut::new();
    while !input.is_empty() {
        let body = input.sized(10);
        stream.put_u32(body.len() as u32);
        stream.put_slice(body);
    }
    stream.to_vec()
}

fn check<M: Message + Default + PartialEq + Clone + Debug>(stream: &[u8], cuts: u8, door: fn(&M)) {
    let whole = read::<M>([stream]);
    let pieces = read::<M>(cut(stream, cuts));
    assert_eq!(pieces, whole, "what was read depends on how the stream was cut");
    for frame in &whole.0 {
        door(frame);
        if frame.encoded_len() == 0 {
            // All of it was unknown fields, which are read over: there is nothing to write.
            continue;
        }
        let mut again = BytesMut::new();
        frame::encode(frame, &mut again);
        let (frames, error) = read::<M>([&again[..]]);
        assert!(frames == [frame.clone()], "written and read again, it is {frames:?}: {frame:?}");
        assert_eq!(error, None);
    }
}

/// Pieces of up to 128 bytes; at the highest bit of `cuts`, each second one is a single byte.
fn cut(stream: &[u8], cuts: u8) -> impl Iterator<Item = &[u8]> {
    let len = usize::from(cuts & 0x7f) + 1;
    let second = if cuts & 0x80 != 0 { 1 } else { len };
    let mut rest = stream;
    let mut lens = [len, second].into_iter().cycle();
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(lens.next()?.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn read<'a, M: Message + Default>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<M>, Option<FrameError>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    let mut fed = 0;
    for piece in pieces {
        decoder.feed(piece);
        fed += piece.len();
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.pending_len(), 0, "it is kept, and never yielded");
                    assert_eq!(decoder.next_frame::<M>().err(), Some(error.clone()));
                    return (frames, Some(error));
                }
            }
        }
        assert!(decoder.pending_len() <= fed, "more is held than was fed");
    }
    (frames, None)
}

/// The checks that the node makes of a client's request.
fn at_the_door(frame: &ClientFrame) {
    let Some(client_frame::Frame::Request(request)) = &frame.frame else { return };
    match &request.command {
        Some(request::Command::Write(write)) if validate::write(write).is_ok() => {
            assert!(write.encoded_len() <= WRITE_LEN_MAX);
        }
        Some(request::Command::Get(get)) if validate::get(get).is_ok() => {
            assert!((1..=KEY_LEN_MAX).contains(&get.key.len()));
        }
        Some(request::Command::Range(range)) if validate::range(range).is_ok() => {
            let longest = range.from.len().max(range.to.len());
            assert!(longest <= KEY_LEN_MAX);
        }
        _ => {}
    }
}

/// The same of a write that another node passes on.
fn forwarded(frame: &PeerFrame) {
    let Some(peer_frame::Frame::Forward(forward)) = &frame.frame else { return };
    if let Some(forward::Command::Write(write)) = &forward.command
        && validate::write(write).is_ok()
    {
        assert!(write.encoded_len() <= WRITE_LEN_MAX);
    }
}
