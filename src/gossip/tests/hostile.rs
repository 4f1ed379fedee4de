//! Whatever comes in: nothing crashes, nothing wedges, everything is counted.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::world::{SECOND, World, id};
use crate::gossip::packet::{decode, encode};
use crate::gossip::{Event, Gossip, Output, Settings};
use crate::limits::GOSSIP_MEMBERS_MAX;
use crate::wire::gossip::{
    Node, Packet, Ping, PingRequest, Update, Verdict, packet::Body, update::News, verdict::Kind,
};

fn packet(from: u64, news: News) -> Bytes {
    let updates = vec![Update { news: Some(news) }];
    encode(&Packet { version: 1, from, updates, ..Packet::default() })
}

fn stranger() -> std::net::SocketAddr {
    "[fd00::bad]:666".parse().unwrap()
}

#[test]
fn forged_verdicts_are_refuted_whatever_their_incarnation() {
    let kinds = [Kind::Suspect, Kind::Dead, Kind::Left];
    for (incarnation, kind) in [1, 2, 1 << 62, 1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX]
        .into_iter()
        .flat_map(|i| kinds.map(|k| (i, k)))
    {
        let mut world = World::settled(3, 1);
        world.run_for(5 * SECOND);
        let verdict =
            Verdict { raft_id: id(1), starts: 1, incarnation, kind: kind.into(), by: id(2) };
        for i in 0..3 {
            world.inject(stranger(), i, packet(id(2), News::Verdict(verdict)));
        }
        world.run_until(20 * SECOND, "the victim lives", |world| {
            world.is_complete() && world.now.as_secs() > 10
        });
        world.run_for(30 * SECOND);
        assert!(world.is_complete(), "{kind:?} of incarnation {incarnation}");
    }
}

#[test]
fn a_forged_description_is_corrected() {
    let mut world = World::settled(3, 1);
    for incarnation in [1, 2, 1 << 63, u64::MAX] {
        let forged = Node {
            incarnation,
            address: "evil:1".into(),
            gossip_address: stranger().to_string(),
            ..world.node(1, 1)
        };
        for i in 0..3 {
            world.inject(stranger(), i, packet(id(2), News::Alive(forged.clone())));
        }
        world.run_for(SECOND);
        world.run_until(20 * SECOND, "all know the truth", |world| {
            let right = |i: usize| {
                let member = world.gossip(i).member(id(1)).unwrap();
                member.node.address == "host-1:9000"
                    && member.gossip_address == world.machines[1].address
            };
            world.is_complete() && right(0) && right(2)
        });
    }
    assert!(world.gossip(1).counters().refuted >= 2);
}

#[test]
fn bytes_of_every_kind_harm_nobody() {
    let mut world = World::new(3, 1);
    world.settings.dead_keep = 120 * SECOND;
    world.start_all();
    world.run_for(15 * SECOND);
    let mut rng = fastrand::Rng::with_seed(77);
    let genuine: Vec<Bytes> = (0..3).flat_map(|i| samples(&mut world, i)).collect();
    let before = world.gossip(0).counters().malformed;
    for _ in 0..20_000 {
        let mut bytes = match rng.u8(..4) {
            0 => (0..rng.usize(..1400)).map(|_| rng.u8(..)).collect(),
            _ => genuine[rng.usize(..genuine.len())].to_vec(),
        };
        for _ in 0..rng.usize(..4) {
            mutate(&mut bytes, &mut rng);
        }
        if rng.u8(..8) > 0 {
            seal(&mut bytes);
        }
        let now = world.now;
        world.act(0, |gossip, _, out| gossip.receive(now, stranger(), &bytes, out));
        let reply = world.act(0, |gossip, now, out| {
            gossip.on_sync_request(now, bytes.get(4..).unwrap_or_default(), out).is_ok()
        });
        assert!(reply.is_some());
        assert!(world.gossip(0).members().count() <= GOSSIP_MEMBERS_MAX);
    }
    assert!(world.gossip(0).counters().malformed > before + 1000);
    // What was forged well enough is believed until nobody has answered for it, and it is forgotten.
    world.run_for(SECOND);
    world.run_until(600 * SECOND, "the three are one mesh, alone", |world| {
        world.is_complete() && world.running().all(|i| world.gossip(i).members().count() == 2)
    });
}

/// Packets as nodes send them.
fn samples(world: &mut World, i: usize) -> Vec<Bytes> {
    let seeds = [world.machines[0].address, stranger()];
    let mut out = Output::default();
    let now = world.now;
    world.machines[i].process.as_mut().unwrap().join(now, &seeds, &mut out);
    let request = PingRequest {
        number: 5,
        target: id(1),
        target_address: stranger().to_string(),
        nack_after_ms: 10,
    };
    let request =
        Packet { version: 1, from: id(i), body: Some(Body::Request(request)), ..Packet::default() };
    let verdict = Verdict { raft_id: id(2), starts: 1, incarnation: 1, kind: 1, by: id(i) };
    let mut bytes: Vec<Bytes> = out.packets.into_iter().map(|(_, bytes)| bytes).collect();
    bytes.push(encode(&request));
    bytes.push(packet(id(i), News::Verdict(verdict)));
    bytes.push(packet(id(i), News::Alive(world.node(1, 1))));
    bytes
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.usize(..bytes.len());
    match rng.u8(..4) {
        0 => bytes[at] ^= 1 << rng.u8(..8),
        1 => bytes[at] = rng.u8(..),
        2 => bytes.truncate(at),
        _ => bytes.insert(at, rng.u8(..)),
    }
}

/// Makes the checksum right, so that the mutation gets past it.
fn seal(bytes: &mut Vec<u8>) {
    let body = bytes.split_off(bytes.len().min(4));
    let mut sealed = BytesMut::new();
    sealed.put_u32(crc32c::crc32c(&body));
    sealed.put_slice(&body);
    *bytes = sealed.to_vec();
}

#[test]
fn duplicates_and_old_packets_change_nothing() {
    let mut world = World::settled(3, 1);
    world.run_for(5 * SECOND);
    let old = packet(
        id(2),
        News::Verdict(Verdict {
            raft_id: id(1),
            starts: 1,
            incarnation: 0,
            kind: Kind::Dead.into(),
            by: id(2),
        }),
    );
    let events = world.events.len();
    for _ in 0..100 {
        world.inject(stranger(), 0, old.clone());
    }
    world.run_for(5 * SECOND);
    assert!(world.is_complete());
    assert_eq!(world.events.len(), events);
}

#[test]
fn the_table_of_members_is_bounded_and_the_dead_make_room() {
    let now = SECOND;
    let world = World::new(1, 1);
    let mut gossip = Gossip::new(Settings::default(), world.node(0, 1), 1, now).unwrap();
    let mut out = Output::default();
    let node = |i: usize| Node {
        raft_id: id(i),
        name: format!("node-{i}"),
        gossip_address: format!("[fd00::1:{i:x}]:7946"),
        incarnation: 1,
        starts: 1,
        ..Node::default()
    };
    for i in 1..=GOSSIP_MEMBERS_MAX + 10 {
        gossip.receive(now, stranger(), &packet(9_999, News::Alive(node(i))), &mut out);
    }
    assert_eq!(gossip.members().count(), GOSSIP_MEMBERS_MAX);
    assert_eq!(gossip.counters().members_refused, 10);
    let left =
        Verdict { raft_id: id(7), starts: 1, incarnation: 1, kind: Kind::Left.into(), by: id(7) };
    gossip.receive(now, stranger(), &packet(id(7), News::Verdict(left)), &mut out);
    let latest = GOSSIP_MEMBERS_MAX + 50;
    gossip.receive(now, stranger(), &packet(9_999, News::Alive(node(latest))), &mut out);
    assert_eq!(gossip.members().count(), GOSSIP_MEMBERS_MAX);
    assert!(gossip.member(id(7)).is_none() && gossip.member(id(latest)).is_some());
    // A table as large as can be is read again.
    let table = gossip.sync_request();
    let mut other = Gossip::new(Settings::default(), world.node(0, 1), 1, now).unwrap();
    let mut me = other.me().clone();
    me.name = "other".into();
    other.update(now, me).unwrap();
    assert_eq!(
        other.on_sync_request(now, &table, &mut out).map(|reply| reply.len() > 10),
        Ok(true)
    );
}

#[test]
fn the_longest_names_still_fit_into_a_packet() {
    let mut world = World::new(3, 1);
    for i in 0..3 {
        let node = Node {
            name: format!("{i}{}", "n".repeat(127)),
            address: "a".repeat(259),
            region: "r".repeat(64),
            version: "v".repeat(64),
            cluster_id: vec![7; 16].into(),
            nonce: u64::MAX - i as u64,
            ..world.node(i, u64::MAX)
        };
        world.start(i, &node);
        world.join(i, 0);
    }
    // The world checks the length of every packet.
    world.run_until(10 * SECOND, "the mesh has formed", World::is_complete);
    assert_eq!(world.count(|event| matches!(event, Event::Died(_))), 0);
}

#[test]
fn a_packet_that_introduces_another_is_refused() {
    let world = World::new(1, 1);
    let packet =
        Packet { version: 1, from: 5, sender: Some(world.node(0, 1)), ..Packet::default() };
    assert!(decode(&encode(&packet)).is_err());
    let unknown = Packet { version: 2, from: 5, ..Packet::default() };
    assert!(decode(&encode(&unknown)).is_err());
    assert!(decode(&[0; 4]).is_err() && decode(&[]).is_err());
    let no_sender = Packet { version: 1, ..Packet::default() }.encode_to_vec();
    let mut bytes = [&[0; 4][..], &no_sender].concat();
    seal(&mut bytes);
    assert!(decode(&bytes).is_err());
}

#[test]
fn a_stranger_is_told_seldom_and_in_fewer_bytes_than_it_sent() {
    let mut world = World::new(1, 1);
    let cluster = |byte: u8| Bytes::from(vec![byte; 16]);
    world.start(0, &Node { cluster_id: cluster(1), ..world.node(0, 1) });
    let sent = |body: Option<Body>| {
        encode(&Packet {
            version: 1,
            from: id(9),
            cluster_id: cluster(2),
            body,
            ..Packet::default()
        })
    };
    let mut answers = |after: std::time::Duration, bytes: &Bytes| -> Vec<usize> {
        world.run_for(after);
        let mut out = Output::default();
        let now = world.now;
        world.machines[0].process.as_mut().unwrap().receive(now, stranger(), bytes, &mut out);
        let to_stranger = out.packets.iter().filter(|(to, _)| *to == stranger());
        to_stranger.map(|(_, bytes)| bytes.len()).collect()
    };
    let ping = sent(Some(Body::Ping(Ping { number: 1, to: 0 })));
    let [len] = answers(SECOND, &ping)[..] else { panic!("one ping, one answer") };
    assert!(len < ping.len(), "{len}");
    assert!(answers(SECOND / 2, &ping).is_empty(), "one is enough for a while");
    assert_eq!(answers(SECOND / 2, &ping), [len]);
    // What asks for nothing gets nothing, or two clusters would go on for ever.
    assert!(answers(2 * SECOND, &sent(None)).is_empty());
}
