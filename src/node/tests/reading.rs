//! Snapshots that clients read: whole, as new as what was acknowledged, bounded, and closed in the end.

use std::time::Duration;

use super::super::{ConnectionId, Input};
use crate::limits::{SNAPSHOT_IDLE_MAX, SNAPSHOTS_MAX};
use crate::sim::world::World;
use crate::store::transfer::Inspection;
use crate::store::{Figures, WindowBounds};
use crate::wire::client::{Code, Error, ReadSnapshot, SnapshotChunk, request, response};
use crate::wire::snapshot::Header;

const TIMEOUT: Duration = Duration::from_secs(5);

impl World {
    fn read_chunk(
        &mut self,
        i: usize,
        connection: ConnectionId,
        snapshot: u64,
        number: u64,
    ) -> Result<SnapshotChunk, Error> {
        let asked = request::Command::ReadSnapshot(ReadSnapshot { snapshot, number });
        let id = self.request(i, connection, TIMEOUT, asked);
        self.run_until("it is answered", |world| world.unanswered(i) == 0);
        let answers = self.take_answers();
        let answer = answers.into_iter().find(|answer| answer.id == id).expect("it was awaited");
        match answer.response.and_then(|response| response.result) {
            Some(response::Result::SnapshotChunk(chunk)) => Ok(chunk),
            Some(response::Result::Error(refused)) => Err(refused),
            other => panic!("{other:?}"),
        }
    }

    fn read_all(&mut self, i: usize, connection: ConnectionId) -> (u64, Header, Figures) {
        let mut inspection = Inspection::new(WindowBounds::default());
        let mut id = 0;
        while !inspection.is_complete() {
            let asked = self.read_chunk(i, connection, id, inspection.due());
            let SnapshotChunk { snapshot, chunk } = asked.expect("it is answered");
            assert!(id == 0 || id == snapshot);
            id = snapshot;
            inspection.add(&chunk.expect("a chunk")).expect("it is sound");
        }
        let (header, figures) = inspection.finish().expect("it is whole");
        (id, header, figures)
    }
}

fn written(world: &mut World, i: usize, count: u32) {
    for number in 0..count {
        world.put(i, &format!("key {number}"), TIMEOUT);
    }
    world.run_until("they are written", |world| world.unanswered(i) == 0);
    world.take_answers();
}

#[test]
fn any_node_gives_all_that_was_acknowledged_before() {
    super::for_seeds(0..5, |seed| {
        let mut world = World::whole(seed, 3);
        for round in 1..=3u64 {
            let leader = world.leader().expect("a whole cluster has a leader");
            written(&mut world, leader, 40);
            let revision = world.node(leader).status().node.expect("its status").revision;
            assert_eq!(revision, 40 * round);
            for i in 0..3 {
                let (_, header, figures) = world.read_all(i, 7);
                assert!(header.revision >= revision, "{} of {revision}", header.revision);
                assert_eq!(figures.keys, 40);
                assert_eq!(header.cluster_id, world.node(i).identity().cluster_id);
            }
        }
    });
}

#[test]
fn a_snapshot_shows_one_revision_whatever_is_written_meanwhile() {
    let mut world = World::whole(1, 3);
    written(&mut world, 0, 40);
    let first = world.read_chunk(0, 7, 0, 0).unwrap();
    let revision = first.chunk.clone().unwrap().header.unwrap().revision;
    written(&mut world, 0, 50);
    world.run_for(Duration::from_secs(3));
    let mut inspection = Inspection::new(WindowBounds::default());
    inspection.add(&first.chunk.unwrap()).unwrap();
    while !inspection.is_complete() {
        let number = inspection.due();
        let chunk = world.read_chunk(0, 7, first.snapshot, number).unwrap();
        inspection.add(chunk.chunk.as_ref().unwrap()).unwrap();
        if !inspection.is_complete() {
            // The last one may be asked for again.
            assert_eq!(world.read_chunk(0, 7, first.snapshot, number), Ok(chunk));
        }
    }
    let (_, figures) = inspection.finish().unwrap();
    assert_eq!((figures.keys, figures.revision), (40, revision));
}

#[test]
fn what_is_not_ones_own_or_not_there_is_refused() {
    let mut world = World::whole(1, 1);
    written(&mut world, 0, 40);
    let id = world.read_chunk(0, 7, 0, 0).unwrap().snapshot;
    let mut refused = |connection, snapshot, number| {
        let refused = world.read_chunk(0, connection, snapshot, number).unwrap_err();
        assert_eq!(refused.code(), Code::Invalid);
        refused.message
    };
    assert!(refused(8, id, 1).contains("no such snapshot open on this connection"));
    assert!(refused(7, id ^ 1, 1).contains("no such snapshot"));
    assert!(refused(7, id, 2).contains("1 is the next"));
    assert!(refused(7, 0, 1).contains("from its chunk 0 on"));
    // Read to its end, it is closed.
    let (id, ..) = world.read_all(0, 9);
    let refused = world.read_chunk(0, 9, id, 1).unwrap_err();
    assert!(refused.message.contains("no such snapshot"), "{refused:?}");
}

#[test]
fn they_are_bounded_and_closed_when_nobody_wants_them_any_more() {
    let mut world = World::whole(1, 1);
    written(&mut world, 0, 40);
    let most = SNAPSHOTS_MAX as u64 - 1;
    let opened = |world: &mut World| {
        let open = (0..most).map(|connection| world.read_chunk(0, connection, 0, 0).unwrap());
        let ids: Vec<u64> = open.map(|chunk| chunk.snapshot).collect();
        assert_eq!(world.read_chunk(0, 99, 0, 0).unwrap_err().code(), Code::Overloaded);
        ids
    };
    opened(&mut world);
    // Its connection ends.
    for connection in 0..most {
        world.input(0, Input::ClientGone(connection));
    }
    world.run_for(Duration::from_millis(1));
    let ids = opened(&mut world);
    // One goes on being asked for, the others do not.
    for _ in 0..4 {
        world.run_for(SNAPSHOT_IDLE_MAX / 3);
        world.read_chunk(0, 0, ids[0], 0).unwrap();
    }
    for (connection, id) in (1..).zip(&ids[1..]) {
        let refused = world.read_chunk(0, connection, *id, 1).unwrap_err();
        assert!(refused.message.contains("no such snapshot"), "{refused:?}");
    }
    world.read_chunk(0, 1, 0, 0).unwrap();
    // And no one for ever.
    for _ in 0..400 {
        world.run_for(Duration::from_secs(10));
        if world.read_chunk(0, 0, ids[0], 0).is_err() {
            return;
        }
    }
    panic!("it is open for more than an hour");
}
