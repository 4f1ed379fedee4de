//! Bytes that are no protocol, and connections that belong elsewhere. Each costs its own connection only.

use phalanx::wire::client::{Code, Hello, Identity, Role, client_frame};

use crate::harness::{Node, SOON, wait_until};
use crate::wire::{Bystander, Wire, client_hello, encode, get, put, request};

/// Sends bytes on a new connection, before and after a greeting; the node ends both, and says why.
fn assert_ended(node: &Node, bytes: &[u8], told: &str) {
    for mut wire in [Wire::open(&node.address), Wire::greeted(&node.address)] {
        wire.send_bytes(bytes);
        let refusal = wire.ended_with();
        assert_eq!(refusal.code(), Code::Invalid);
        assert!(refusal.message.contains(told), "{refusal:?} does not tell {told:?}");
    }
}

#[test]
fn bytes_that_are_no_protocol_end_their_connection_only() {
    let node = Node::start_single("protocol");
    let bystander = Bystander::start(&node);
    let noise: Vec<u8> = (0..8 << 20).map(|_| fastrand::u8(1..)).collect();

    assert_ended(
        &node,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "this is no Phalanx protocol",
    );
    assert_ended(&node, &[0xff; 4], "a frame of 4294967295 bytes, over the limit of 4259840");
    assert_ended(&node, &[0; 4], "a frame of length 0");
    assert_ended(&node, &[0, 0, 0, 3, 0xff, 0xff, 0xff], "a frame that cannot be read");
    assert_ended(&node, &other_kind(), "a frame of a kind that this version does not know");
    // Much more than the node reads: its error reaches the sender all the same.
    assert_ended(&node, &noise, "this is no Phalanx protocol");

    let mut wire = Wire::open(&node.address);
    wire.send(request(1, get("k")));
    assert!(wire.ended_with().message.contains("a request before the hello"));
    let mut wire = Wire::greeted(&node.address);
    wire.send(client_frame::Frame::Hello(client_hello()));
    assert!(wire.ended_with().message.contains("a second hello"));
    bystander.finish();
}

#[test]
fn connections_that_break_off_leave_nothing_behind() {
    let node = Node::start_single("truncated");
    let bystander = Bystander::start(&node);
    let before = connections(&node);
    let frame = encode(request(1, put("half", vec![b'v'; 1000])));
    for len in [1, 4, 5, 500, frame.len() - 1] {
        Wire::greeted(&node.address).send_bytes(&frame[..len]);
    }
    // Requests that are under way when their connection goes.
    for id in 0..100 {
        let mut wire = Wire::greeted(&node.address);
        wire.request(id, put("whole", "v"));
        wire.request(id, get("whole"));
    }
    wait_until("the node drops connections that are gone", SOON, || connections(&node) == before);
    let client = node.client(crate::TIMEOUT);
    assert_eq!(client.get("half").unwrap().result, None, "half a frame is no request");
    bystander.finish();
}

/// A frame that has nothing but a field of a later version.
fn other_kind() -> [u8; 6] {
    const FIELD_15: u8 = 15 << 3;
    [0, 0, 0, 2, FIELD_15, 1]
}

/// How many descriptors of the node are sockets.
fn connections(node: &Node) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid().as_raw_pid())).unwrap();
    let links = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    links.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn who_says_nothing_is_disconnected() {
    let node = Node::start_single("mute");
    let mut mute = Wire::open(&node.address);
    let mut halting = Wire::open(&node.address);
    halting.send_bytes(&encode(client_frame::Frame::Hello(client_hello()))[..3]);
    for wire in [&mut mute, &mut halting] {
        let refusal = wire.ended_with();
        assert!(refusal.message.contains("no hello came within 10 s"), "{refusal:?}");
    }
}

#[test]
fn greetings_that_belong_elsewhere_are_refused() {
    let node = Node::start_single("greeting");
    let bystander = Bystander::start(&node);
    let own = Wire::open(&node.address).greet(client_hello()).unwrap().node.unwrap();
    let other = Identity {
        cluster_id: vec![7; 16].into(),
        raft_id: 7,
        name: "stranger".into(),
        starts: 1,
        nonce: 7,
        ..Identity::default()
    };
    let peer = |from| Hello { role: Role::Peer.into(), from: Some(from), ..client_hello() };
    for (hello, code, told) in [
        (
            Hello { version: 99, ..client_hello() },
            Code::Invalid,
            "this server speaks version 1 of the protocol, not 99",
        ),
        (Hello { role: 0, ..client_hello() }, Code::Invalid, "does not tell whether"),
        (
            Hello { cluster_id: vec![7; 16].into(), ..client_hello() },
            Code::WrongCluster,
            "not 07070707070707070707070707070707",
        ),
        (peer(other.clone()), Code::WrongCluster, "this node belongs to cluster"),
        (
            peer(Identity { raft_id: 0, cluster_id: own.cluster_id.clone(), ..other.clone() }),
            Code::Invalid,
            "lacks its identity",
        ),
        (
            peer(Identity { nonce: own.nonce ^ 1, ..own.clone() }),
            Code::Invalid,
            "runs on a copy of the other's data directory",
        ),
    ] {
        let refusal = Wire::open(&node.address).greet(hello).unwrap_err();
        assert_eq!(refusal.code(), code, "{refusal:?}");
        assert!(refusal.message.contains(told), "{refusal:?} does not tell {told:?}");
    }

    // A peer that is let in and then sends what no peer sends.
    let mut wire = Wire::open(&node.address);
    wire.greet(peer(Identity { cluster_id: own.cluster_id, ..other })).unwrap();
    wire.send_bytes(&other_kind());
    wire.send_bytes(&[0, 0, 0, 1, 0xff]);
    assert!(wire.ended_with().message.contains("cannot be read"));
    bystander.finish();
}
