//! Requests over a limit. Where each limit lies is tested beside `wire::validate`; here, that a node checks it, and that
//! the connection and the other clients go on.

use phalanx::client::op;
use phalanx::limits::{KEY_LEN_MAX, TXN_OPS_MAX, VALUE_LEN_MAX, WRITE_LEN_MAX};
use phalanx::wire::client::{Code, Op, Range, request::Command};

use crate::harness::Node;
use crate::wire::{Bystander, Wire, get, put, write};

#[test]
fn what_is_over_a_limit_is_refused_and_disturbs_nobody() {
    let node = Node::start_single("limits");
    let bystander = Bystander::start(&node);
    let mut wire = Wire::greeted(&node.address);

    let long_key = vec![b'k'; KEY_LEN_MAX + 1];
    let long_value = vec![b'v'; VALUE_LEN_MAX + 1];
    let many: Vec<Op> = (0..=TXN_OPS_MAX).map(|i| op::put(format!("many/{i}"), "v")).collect();
    let long = (0..3).map(|i| op::put(format!("long/{i}"), &long_value[1..])).collect();
    for (command, code, told) in [
        (put("", "v"), Code::Invalid, "the key is empty"),
        (get(""), Code::Invalid, "the key is empty"),
        (write(vec![op::delete("")]), Code::Invalid, "the key is empty"),
        (put(&long_key, "v"), Code::TooLarge, "the key has 1025 bytes, over the limit of 1024"),
        (get(&long_key), Code::TooLarge, "the key has 1025 bytes, over the limit of 1024"),
        (put("k", &long_value), Code::TooLarge, "the value has 1048577 bytes, over the limit"),
        (write(many), Code::TooLarge, "129 compares and operations, over the limit of 128: split"),
        (write(long), Code::TooLarge, "over the limit of 2097152: split it"),
        (
            Command::Range(Range { limit: 1001, ..Range::default() }),
            Code::TooLarge,
            "is over 1000: read page by page",
        ),
    ] {
        wire.request(1, command);
        let refusal = wire.refusal();
        assert_eq!(refusal.code(), code, "{refusal:?}");
        assert!(refusal.message.contains(told), "{refusal:?} does not tell {told:?}");
        assert!(!refusal.maybe_applied, "{refusal:?}");
    }

    let client = node.client(crate::TIMEOUT);
    let left = client.range(Range { from: "long".into(), to: "n".into(), ..Range::default() });
    assert_eq!(left.unwrap().result.kvs, [], "nothing of a refused transaction is applied");
    bystander.finish();
}

#[test]
fn what_is_at_a_limit_is_taken() {
    let node = Node::start_single("at-limits");
    let client = node.client(crate::TIMEOUT);
    let (key, value) = (vec![b'k'; KEY_LEN_MAX], vec![b'v'; VALUE_LEN_MAX]);
    client.put(&key, &value).unwrap();
    assert_eq!(client.get(&key).unwrap().result.unwrap().value, value);

    let len = WRITE_LEN_MAX / TXN_OPS_MAX - 64;
    let puts = (0..TXN_OPS_MAX).map(|i| op::put(format!("at/{i}"), &value[..len]));
    let mut wire = Wire::greeted(&node.address);
    let response = wire.answer(1, write(puts.collect()));
    let is_done = matches!(response.result, Some(phalanx::wire::client::response::Result::Txn(_)));
    assert!(is_done, "{response:?}");
}
