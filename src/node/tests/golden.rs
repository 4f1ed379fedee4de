//! Transcripts.

use super::world::World;
use crate::wire::peer::PeerFrame;

pub(super) fn frame_line(
    world: &World,
    from: usize,
    to: usize,
    frame: &PeerFrame,
    lost: bool,
) -> String {
    format!("{:?} {from} {to} {frame:?} {lost}", world.now)
}
