//! Messages of a peer that does not follow the protocol: refused or lost, never a panic, never believed.

use std::time::Duration;

use prost::Message as _;
use raft::eraftpb::MessageType;

use super::super::{Outputs, Recovered, Replica, Settings, membership};
use crate::wire::log::{ConfState, Entry, EntryKind, HardState, MemberInfo, Membership};
use crate::wire::peer::RaftMessage;

const OWN: u64 = 1;

/// A replica with five entries of term 1, of which three are applied.
fn replica(voters: &[u64], seed: u64) -> Replica {
    let info = MemberInfo { raft_id: OWN, name: "n1".into(), address: String::new() };
    let genesis = membership::genesis(&[7; 16], 3, info).encode_to_vec();
    let entry = |index: u64| Entry {
        term: 1,
        index,
        kind: if index == 1 { EntryKind::ConfChange } else { EntryKind::Normal }.into(),
        data: if index == 1 { genesis.clone().into() } else { Default::default() },
    };
    let conf_state = ConfState { voters: voters.to_vec(), ..ConfState::default() };
    let recovered = Recovered {
        entries: (1..=5).map(entry).collect(),
        hard_state: HardState { term: 1, vote: 0, commit: 3 },
        applied: 3,
        membership: Some(Membership { conf_state: Some(conf_state), ..Membership::default() }),
        ..Recovered::default()
    };
    let settings = Settings {
        raft_id: OWN,
        nonce: 1,
        seed,
        election_ticks: 4,
        heartbeat_ticks: 1,
        tick: Duration::from_millis(100),
        retention: Default::default(),
    };
    Replica::new(settings, recovered).expect("it starts")
}

/// Runs it for a turn, with a disk that is done at once, or not at all.
fn turn(replica: &mut Replica, is_durable: bool) -> Outputs {
    let mut out = Outputs::default();
    replica.drain(Duration::ZERO, &mut out);
    if is_durable && replica.persisted < replica.last_record {
        replica.persisted(replica.last_record);
        replica.drain(Duration::ZERO, &mut out);
    }
    if let Some(last) = out.committed.last() {
        replica.applied(last.index);
    }
    out
}

fn message(kind: MessageType, term: u64) -> RaftMessage {
    RaftMessage { r#type: kind as u32, from: 2, to: OWN, term, ..RaftMessage::default() }
}

fn leader(seed: u64) -> Replica {
    let mut replica = replica(&[1, 2, 3], seed);
    replica.campaign();
    turn(&mut replica, true);
    replica.receive(message(MessageType::MsgRequestPreVoteResponse, 2)).unwrap();
    turn(&mut replica, true);
    replica.receive(message(MessageType::MsgRequestVoteResponse, 2)).unwrap();
    turn(&mut replica, true);
    assert!(replica.leads());
    replica
}

#[test]
fn what_raft_rs_would_panic_at_is_refused() {
    let refused = |replica: &mut Replica, message: RaftMessage| {
        assert!(replica.receive(message.clone()).is_err(), "{message:?}");
    };
    let mut follower = replica(&[1, 2, 3], 1);
    refused(&mut follower, message(MessageType::MsgAppend, 0));
    refused(&mut follower, message(MessageType::MsgTransferLeader, 1));
    refused(&mut follower, message(MessageType::MsgReadIndex, 1));
    let heartbeat = message(MessageType::MsgHeartbeat, 1);
    refused(&mut follower, RaftMessage { commit: 6, ..heartbeat });
    let append = message(MessageType::MsgAppend, 1);
    refused(&mut follower, RaftMessage { index: 9, ..append.clone() });
    let gap = vec![Entry { term: 1, index: 7, ..Entry::default() }];
    refused(&mut follower, RaftMessage { index: 5, log_term: 1, entries: gap, ..append });

    let mut leader = leader(1);
    refused(&mut leader, message(MessageType::MsgReadIndex, 0));
    let response = message(MessageType::MsgAppendResponse, 2);
    refused(&mut leader, RaftMessage { index: 99, ..response.clone() });
    refused(&mut leader, RaftMessage { reject: true, reject_hint: u64::MAX, ..response });
}

#[test]
fn an_append_of_the_protocol_is_taken() {
    let mut follower = replica(&[1, 2, 3], 1);
    let entries = vec![Entry { term: 2, index: 6, ..Entry::default() }];
    let append = message(MessageType::MsgAppend, 2);
    follower
        .receive(RaftMessage { index: 5, log_term: 1, entries, commit: 6, ..append })
        .expect("it is well-formed");
    let out = turn(&mut follower, true);
    assert_eq!((follower.last_index(), follower.commit()), (6, 6));
    assert!(out.messages.iter().any(|answer| answer.index == 6 && !answer.reject));
}

/// Small numbers, so that many of them mean something.
fn random_message(rng: &mut fastrand::Rng) -> RaftMessage {
    let number = |rng: &mut fastrand::Rng| match rng.u8(..12) {
        0 => u64::MAX - rng.u64(..2),
        _ => rng.u64(..9),
    };
    let first = number(rng);
    let entries = (0..rng.u64(..3)).map(|i| Entry {
        term: rng.u64(..5),
        index: if rng.u8(..4) == 0 { number(rng) } else { first.saturating_add(i) },
        kind: EntryKind::Normal.into(),
        data: vec![1; rng.usize(..4)].into(),
    });
    RaftMessage {
        entries: entries.collect(),
        r#type: rng.u32(..20),
        to: OWN,
        from: rng.u64(2..5),
        term: rng.u64(..6),
        log_term: rng.u64(..4),
        index: if rng.bool() { first.saturating_sub(1) } else { number(rng) },
        commit: number(rng),
        commit_term: rng.u64(..4),
        request_snapshot: if rng.u8(..8) == 0 { 1 } else { 0 },
        reject: rng.bool(),
        reject_hint: number(rng),
        context: vec![7; rng.usize(..3)].into(),
        priority: 0,
    }
}

#[test]
fn no_message_makes_it_panic() {
    let mut leaders = 0;
    for seed in 0..600 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut replica = match seed % 3 {
            0 => leader(seed),
            1 => replica(&[1, 2, 3], seed),
            _ => self::replica(&[1], seed),
        };
        for _ in 0..150 {
            match rng.u8(..6) {
                0 => (0..rng.u32(..30)).for_each(|_| replica.tick()),
                1 => drop(turn(&mut replica, true)),
                2 => drop(turn(&mut replica, false)),
                // Refused or not: it goes on.
                _ => drop(replica.receive(random_message(&mut rng))),
            }
            leaders += u32::from(replica.leads());
        }
    }
    assert!(leaders > 1000, "leaders, too, are spoken to: {leaders}");
}
