//! The client against a scripted server.

use std::iter;
use std::time::Duration;

use super::fake::{FakeConnection, FakeServer, found, kv, put_done, refusal, txn_result};
use super::*;
use crate::limits::REQUESTS_PER_CLIENT_MAX;
use crate::wire::client::{
    DeleteResult, Done, Error as Refusal, RangeResult, client_frame::Frame, op_result,
    response::Result as Answer,
};

fn connect(servers: &[&FakeServer]) -> Client {
    within(servers, Duration::from_secs(30))
}

/// For a request that is meant to run out of time.
fn within(servers: &[&FakeServer], timeout: Duration) -> Client {
    let options = Options { timeout, attempt_timeout: timeout };
    Client::connect(servers.iter().map(|server| server.address()), options).unwrap()
}

fn refused(code: Code) -> Refusal {
    Refusal { maybe_applied: true, ..refusal(code) }
}

/// A client that has a connection, and its other end.
fn connected(server: &FakeServer) -> (Client, FakeConnection) {
    let client = connect(&[server]);
    let get = client.send_get("k");
    let mut connection = server.accept(1);
    let id = connection.request().id;
    connection.answer(id, Answer::Get(found(b"k", b"v")));
    get.wait().unwrap();
    (client, connection)
}

/// A time that is meant to run out.
const BRIEFLY: Duration = Duration::from_millis(200);

/// A request that has no more time than that, on the connection that there is. It is sent all the
/// same, for its caller does that itself.
fn send_briefly(client: &Client, command: Command) -> Pending<()> {
    let deadline = Instant::now() + BRIEFLY;
    let (id, receiver) = client.handle.core.submit(command, deadline);
    let state = PendingState::Sent { id, deadline, receiver, handle: client.handle.clone() };
    Pending { state, decode: |_| None }
}

/// A write that no client has sent.
fn put_k() -> Command {
    let txn = Some(Txn::new().then(op::put("k", "v")).into_wire());
    Command::Write(Write { request_id: call::new_request_id().unwrap(), since: 0, txn })
}

fn code_of<T>(result: Result<Reply<T>>) -> Option<Code> {
    match result {
        Err(Error::Refused { code, .. }) => Some(code),
        _ => None,
    }
}

#[test]
fn the_first_since_is_the_welcomes_and_later_ones_the_largest_applied() {
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let put = client.send_put("k", "v");
    let mut connection = server.accept(41);
    let (id, write) = connection.write();
    assert_eq!((write.since, write.request_id.len()), (41, 16));
    connection.answer(id, put_done());
    let reply = put.wait().unwrap();
    assert_eq!((reply.revision, reply.result.replaced), (100 + id, false));

    let put = client.send_put("k", "v");
    let (next, second) = connection.write();
    assert_eq!(second.since, 200 + id);
    assert_ne!(second.request_id, write.request_id);
    connection.answer(next, put_done());
    put.wait().unwrap();
}

#[test]
fn a_lost_connection_resends_with_the_same_id_and_since() {
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let (put, get) = (client.send_put("k", "v"), client.send_get("other"));
    let mut connection = server.accept(41);
    let mut first = [connection.request(), connection.request()];
    drop(connection);

    let mut connection = server.accept(99);
    let mut second = [connection.request(), connection.request()];
    for requests in [&mut first, &mut second] {
        requests.sort_by_key(|request| request.id);
    }
    assert_eq!(first.each_ref().map(|r| &r.command), second.each_ref().map(|r| &r.command));
    connection.answer(second[0].id, put_done());
    connection.answer(second[1].id, Answer::Get(found(b"other", b"v")));
    put.wait().unwrap();
    assert_eq!(get.wait().unwrap().result, Some(kv(b"other", b"v")));
}

#[test]
fn the_leader_hint_is_followed_with_the_same_write() {
    let (follower, leader) = (FakeServer::start(), FakeServer::start());
    let client = connect(&[&follower]);
    let put = client.send_put("k", "v");
    let mut connection = follower.accept(1);
    let (id, first) = connection.write();
    let hint = Refusal { leader_address: leader.address(), ..refusal(Code::NotLeader) };
    connection.answer(id, Answer::Error(hint));

    let mut connection = leader.accept(1);
    let (id, second) = connection.write();
    assert_eq!(first, second);
    connection.answer(id, put_done());
    put.wait().unwrap();
}

#[test]
fn a_hint_that_leads_nowhere_falls_back_to_the_list() {
    let (server, nowhere) = (FakeServer::start(), FakeServer::nobody());
    let client = connect(&[&server]);
    let put = client.send_put("k", "v");
    let hint = Refusal { leader_address: nowhere.address(), ..refusal(Code::NotLeader) };
    let mut connection = server.accept(1);
    let (id, _) = connection.write();
    connection.answer(id, Answer::Error(hint.clone()));

    // Back, and the same hint is not followed twice.
    let mut connection = server.accept(1);
    let (id, _) = connection.write();
    connection.answer(id, Answer::Error(hint));
    let (id, _) = connection.write();
    connection.answer(id, put_done());
    put.wait().unwrap();
}

#[test]
fn a_node_that_keeps_refusing_is_left_for_another() {
    let dead = FakeServer::nobody();
    let hint = Refusal { leader_address: dead.address(), ..refusal(Code::NotLeader) };
    for refused in [refusal(Code::NotLeader), refusal(Code::NoQuorum), hint] {
        let (cut_off, other) = (FakeServer::start(), FakeServer::start());
        let client = connect(&[&cut_off, &other]);
        let put = client.send_put("k", "v");
        let answer = Answer::Error(refused);
        cut_off.serve(move |_| answer.clone());
        let mut connection = other.accept(1);
        let (id, _) = connection.write();
        connection.answer(id, put_done());
        put.wait().unwrap();
    }
}

#[test]
fn a_passing_refusal_is_retried() {
    let passing =
        [Code::NotLeader, Code::NoQuorum, Code::Timeout, Code::Overloaded, Code::FormingCluster];
    for code in passing {
        let server = FakeServer::start();
        let client = connect(&[&server]);
        let put = client.send_put("k", "v");
        let mut connection = server.accept(1);
        let (id, first) = connection.write();
        connection.refuse(id, code);
        let (id, second) = connection.write();
        assert_eq!(first, second, "{code:?}");
        connection.answer(id, put_done());
        put.wait().unwrap();
    }
}

#[test]
fn a_node_that_stops_is_left_for_another() {
    let (stopping, other) = (FakeServer::start(), FakeServer::start());
    let client = connect(&[&stopping, &other]);
    let put = client.send_put("k", "v");
    let mut connection = stopping.accept(1);
    let (id, first) = connection.write();
    connection.refuse(id, Code::Stopping);
    let mut connection = other.accept(1);
    let (id, second) = connection.write();
    assert_eq!(first, second);
    connection.answer(id, put_done());
    put.wait().unwrap();
}

#[test]
fn a_node_that_falls_silent_is_left_for_another() {
    let (hung, other) = (FakeServer::start(), FakeServer::start());
    let options =
        Options { timeout: Duration::from_secs(30), attempt_timeout: Duration::from_millis(300) };
    let client = Client::connect([hung.address(), other.address()], options).unwrap();
    let put = client.send_put("k", "v");
    // An attempt's time bounds the greeting too: whom it reached late is gone, and comes again.
    let (_silent, first) = iter::repeat_with(|| hung.accept(1))
        .find_map(|mut connection| match connection.next()? {
            Frame::Request(request) => Some((connection, request.command)),
            Frame::Hello(_) => None,
        })
        .unwrap();
    other.serve(move |second| {
        assert_eq!(Some(second), first);
        put_done()
    });
    put.wait().unwrap();
}

#[test]
fn final_refusals_are_not_retried() {
    for code in [Code::Invalid, Code::TooLarge, Code::NoSpace, Code::Unspecified] {
        let server = FakeServer::start();
        let client = connect(&[&server]);
        let put = client.send_put("k", "v");
        let mut connection = server.accept(1);
        let (id, _) = connection.write();
        connection.refuse(id, code);
        assert_eq!(code_of(put.wait()), Some(code));
        drop(client);
        assert_eq!(connection.next(), None, "{code:?} was retried");
    }
}

#[test]
fn a_refusal_after_an_open_attempt_does_not_claim_that_nothing_happened() {
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let put = client.send_put("k", "v");
    server.accept(1).write();
    let mut connection = server.accept(1);
    let (id, _) = connection.write();
    connection.refuse(id, Code::NoSpace);
    assert!(matches!(put.wait(), Err(Error::Unknown { .. })));
}

#[test]
fn an_outdated_since_is_renewed_once_it_is_certain_that_nothing_was_applied() {
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let put = client.send_put("k", "v");
    let mut connection = server.accept(1);
    let (id, first) = connection.write();
    connection.refuse(id, Code::OutcomeUnknown);
    let (id, second) = connection.write();
    assert_ne!(first.request_id, second.request_id);
    assert_eq!(second.since, 200 + id);
    connection.answer(id, Answer::Error(refused(Code::OutcomeUnknown)));
    assert!(matches!(put.wait(), Err(Error::Unknown { .. })));

    // After an attempt whose outcome is open, it is final.
    let put = client.send_put("k", "v");
    let (id, _) = connection.write();
    connection.answer(id, Answer::Error(refused(Code::Timeout)));
    let (id, _) = connection.write();
    connection.refuse(id, Code::OutcomeUnknown);
    assert!(matches!(put.wait(), Err(Error::Unknown { .. })));
}

#[test]
fn the_deadline_tells_unknown_from_unavailable() {
    // Sent, and no answer: a write may have been applied, a read changes nothing.
    let server = FakeServer::start();
    let (client, _silent) = connected(&server);
    let put = send_briefly(&client, put_k());
    let get = send_briefly(&client, Command::Get(Get { key: "k".into(), stale: false }));
    assert!(matches!(put.wait(), Err(Error::Unknown { .. })));
    assert!(matches!(get.wait(), Err(Error::Unavailable { .. })));

    // Nobody there: not sent.
    let nobody = FakeServer::nobody();
    match within(&[&nobody], BRIEFLY).put("k", "v") {
        Err(Error::Unavailable { cause }) => assert!(cause.contains(&nobody.address()), "{cause}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_that_never_left_is_told_with_where_it_was_to_go() {
    // Nobody drives it: its time is up before anything was tried.
    let core = Core::new(vec!["h:1".into(), "h:2".into()], Options::default());
    let (id, _) = core.submit(put_k(), Instant::now());
    match core.give_up(id) {
        Some(Error::Unavailable { cause }) => {
            assert_eq!(cause, "5s passed (no connection to h:1, h:2 yet)");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn refused_and_out_of_time_is_unavailable_unless_the_refusal_left_it_open() {
    let cases = [(Code::NoQuorum, false), (Code::Overloaded, false), (Code::NoQuorum, true)];
    for (code, maybe_applied) in cases {
        let server = FakeServer::start();
        let (address, patience) = (server.address(), Duration::from_secs(30));
        let refusing = thread::spawn(move || {
            let mut connection = server.accept(1);
            let (id, _) = connection.write();
            let refusal = Refusal { maybe_applied, ..refusal(code) };
            connection.answer(id, Answer::Error(refusal));
        });
        // Nobody drives it, so that it is not sent again: what became of that would be open.
        let core = Core::new(vec![address.clone()], Options::within(patience));
        let (link, incoming, welcome) =
            connection::open(&address, Bytes::new(), 1, patience).unwrap();
        let link = Arc::new(link);
        core.connected(link.clone(), welcome);
        let (id, _) = core.submit(put_k(), Instant::now() + patience);
        core.read(&link, incoming);
        let error = core.give_up(id).unwrap();
        assert_eq!(matches!(error, Error::Unknown { .. }), maybe_applied, "{error}");
        assert_eq!(matches!(error, Error::Unavailable { .. }), !maybe_applied, "{error}");
        assert!(error.to_string().contains(&refusal(code).message), "{error}");
        refusing.join().unwrap();
    }
}

#[test]
fn a_thousand_pipelined_requests_answered_in_any_order() {
    let seed = 7;
    let mut random = fastrand::Rng::with_seed(seed);
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let gets: Vec<_> = (0..1000).map(|i| (i, client.send_get(format!("{i}")))).collect();
    let mut connection = server.accept(1);
    let mut requests: Vec<_> = (0..1000).map(|_| connection.request()).collect();
    random.shuffle(&mut requests);
    for request in requests {
        let Some(Command::Get(get)) = request.command else { panic!("no get") };
        connection.answer(request.id, Answer::Get(found(&get.key, &get.key)));
    }
    for (i, get) in gets {
        let value = get.wait().unwrap().result.unwrap().value;
        assert_eq!(value, format!("{i}"), "seed {seed}");
    }
}

#[test]
fn past_the_limit_a_sender_waits_for_a_place() {
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let mut gets: Vec<_> = (0..REQUESTS_PER_CLIENT_MAX).map(|_| client.send_get("k")).collect();
    let over = client.clone();
    let blocked = thread::spawn(move || over.get("k"));
    let mut connection = server.accept(1);
    for _ in 0..REQUESTS_PER_CLIENT_MAX {
        let id = connection.request().id;
        connection.answer(id, Answer::Get(found(b"k", b"v")));
    }
    let id = connection.request().id;
    connection.answer(id, Answer::Get(found(b"k", b"v")));
    blocked.join().unwrap().unwrap();
    assert!(gets.drain(..).all(|get| get.wait().is_ok()));
}

#[test]
fn another_cluster_is_refused_at_once() {
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let put = client.send_put("k", "v");
    let mut connection = server.accept(1);
    let (id, _) = connection.write();
    connection.answer(id, put_done());
    put.wait().unwrap();
    drop(connection);

    let get = client.send_get("k");
    let (mut connection, hello) = server.accept_hello();
    assert_eq!(hello.cluster_id, vec![7; 16], "the cluster is remembered");
    connection.send(crate::wire::client::server_frame::Frame::Error(refusal(Code::WrongCluster)));
    assert_eq!(code_of(get.wait()), Some(Code::WrongCluster));
}

#[test]
fn compare_and_swap_tells_what_it_found() {
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let cas = client.send_cas("k", Expect::Value("a".into()), "b");
    let mut connection = server.accept(1);
    let (id, write) = connection.write();
    let txn = write.txn.unwrap();
    assert_eq!(txn.compares, [compare::value("k", compare::EQUAL, "a")]);
    connection.answer(id, txn_result(false, vec![op_result::Result::Get(found(b"k", b"c"))]));
    assert_eq!(cas.wait().unwrap().result, Swap::Differs(Some(kv(b"k", b"c"))));
}

#[test]
fn a_range_is_deleted_in_steps_and_read_in_pages() {
    let mut steps = vec![
        Answer::Range(RangeResult { kvs: vec![kv(b"c", b"3")], count: 1, next: "".into() }),
        Answer::Range(RangeResult { kvs: vec![kv(b"a", b"1")], count: 1, next: "c".into() }),
        deleted_step(5, ""),
        deleted_step(1024, "m"),
    ];
    let server = FakeServer::start();
    // It waits long enough to send nothing twice: each answer is given once.
    let client = connect(&[&server]);
    server.serve(move |command| {
        let from = match command {
            Command::Write(write) => match write.txn.unwrap().success.remove(0).op {
                Some(crate::wire::client::op::Op::DeleteRange(range)) => range.from,
                other => panic!("{other:?}"),
            },
            Command::Range(range) => range.from,
            other => panic!("{other:?}"),
        };
        let expected: [&[u8]; 4] = [b"c", b"a", b"m", b"b"];
        assert_eq!(from, expected[steps.len() - 1], "continues from `next`");
        steps.pop().unwrap()
    });
    assert_eq!(client.delete_range("b", "z").unwrap().result, 1029);
    let range = Range { from: "a".into(), ..Range::default() };
    let keys: Vec<_> = client.entries(range).map(|kv| kv.unwrap().key).collect();
    assert_eq!(keys, ["a", "c"]);
}

fn deleted_step(deleted: u64, next: &'static str) -> Answer {
    let result = DeleteResult { deleted, next: next.into() };
    txn_result(true, vec![op_result::Result::Delete(result)])
}

#[test]
fn what_is_over_a_limit_never_leaves() {
    let client = Client::connect(["127.0.0.1:1"], Options::default()).unwrap();
    assert_eq!(code_of(client.put("", "v")), Some(Code::Invalid));
    assert_eq!(code_of(client.get(vec![b'k'; 2000])), Some(Code::TooLarge));
}

#[test]
fn endpoints_are_checked() {
    for endpoint in ["", "localhost", ":9000", "localhost:", "localhost:0", "h:70000"] {
        let error = Client::connect([endpoint], Options::default()).unwrap_err();
        assert!(matches!(error, Error::Setup(_)), "{endpoint}");
    }
    assert!(Client::connect([""; 0], Options::default()).is_err());
}

/// Orders a removal, for a thread of its own.
fn removal(client: &Client) -> thread::JoinHandle<Result<Reply<()>>> {
    let client = client.clone();
    thread::spawn(move || client.remove_member("node-3"))
}

#[test]
fn a_removal_is_sent_again_where_nothing_was_done() {
    let (asked, leader) = (FakeServer::start(), FakeServer::start());
    let client = connect(&[&asked]);
    let removal = removal(&client);
    let mut connection = asked.accept(1);
    for code in [Code::NoQuorum, Code::Overloaded, Code::NotLeader] {
        let request = connection.request();
        let Some(Command::RemoveMember(order)) = request.command else { panic!("no removal") };
        assert_eq!(order.name, "node-3");
        assert!(request.timeout_ms > 20_000, "the one attempt has all the time");
        let hint = if code == Code::NotLeader { leader.address() } else { String::new() };
        let refusal = Refusal { leader_address: hint, ..refusal(code) };
        connection.answer(request.id, Answer::Error(refusal));
    }
    let mut connection = leader.accept(1);
    let id = connection.request().id;
    connection.answer(id, Answer::Done(Done {}));
    removal.join().unwrap().unwrap();
}

#[test]
fn a_removal_of_unknown_outcome_is_not_sent_again() {
    for refusal in [Some(refusal(Code::Timeout)), Some(refused(Code::NotLeader)), None] {
        let server = FakeServer::start();
        let client = connect(&[&server]);
        let removal = removal(&client);
        let mut connection = server.accept(1);
        let id = connection.request().id;
        let kept = refusal.map(|refusal| {
            connection.answer(id, Answer::Error(refusal));
            connection
        });
        // Long before the deadline, as there is nothing to wait for.
        let error = removal.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{error}");
        // Nothing else was sent but what is asked for next.
        let get = client.send_get("k");
        let mut connection = kept.unwrap_or_else(|| server.accept(1));
        let request = connection.request();
        assert!(matches!(request.command, Some(Command::Get(_))), "{request:?}");
        connection.answer(request.id, Answer::Get(found(b"k", b"v")));
        get.wait().unwrap();
    }
}

#[test]
fn a_transfer_is_sent_again_until_the_node_leads() {
    let server = FakeServer::start();
    let client = connect(&[&server]);
    let ordering = client.clone();
    let transfer = thread::spawn(move || ordering.transfer_leader("node-2"));
    server.accept(1).request();
    let mut connection = server.accept(1);
    let request = connection.request();
    let Some(Command::TransferLeader(order)) = request.command else { panic!("no transfer") };
    assert_eq!(order.name, "node-2");
    connection.answer(request.id, Answer::Done(Done {}));
    transfer.join().unwrap().unwrap();
}

#[test]
fn an_order_that_nobody_answers_is_of_unknown_outcome() {
    let server = FakeServer::start();
    let (client, _silent) = connected(&server);
    let name = "node-2".to_owned();
    for order in [
        Command::TransferLeader(TransferLeader { name: name.clone(), raft_id: 0 }),
        Command::RemoveMember(RemoveMember { name, raft_id: 0 }),
    ] {
        let error = send_briefly(&client, order).wait().unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{error}");
    }
}

#[test]
fn a_snapshot_is_asked_of_the_next_node_where_one_greets_and_says_nothing_more() {
    let servers = [FakeServer::start(), FakeServer::start()];
    let client = within(&[&servers[0], &servers[1]], Duration::from_secs(30));
    let opened = std::thread::spawn(move || client.snapshot().map(drop));
    let mut broken_off = servers[0].accept(1);
    broken_off.request();
    drop(broken_off);
    let mut refuses = servers[1].accept(1);
    let id = refuses.request().id;
    refuses.refuse(id, Code::Invalid);
    let refused = opened.join().unwrap();
    assert!(matches!(refused, Err(Error::Refused { code: Code::Invalid, .. })), "{refused:?}");
}

#[test]
fn a_node_that_is_hung_is_told_as_such() {
    let hung = FakeServer::start();
    // The kernel connects, and nobody speaks.
    let told = within(&[&hung], Duration::from_millis(200)).snapshot().unwrap_err().to_string();
    assert!(told.contains(&format!("{}: no answer within 200ms", hung.address())), "{told}");
    let told = within(&[&hung], Duration::from_millis(200)).get("k").unwrap_err().to_string();
    assert!(told.contains(&hung.address()) && !told.contains("os error"), "{told}");
}
