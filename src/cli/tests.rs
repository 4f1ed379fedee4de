//! The program as a whole against a scripted server, and the reading of its words.

use std::time::Duration;

use super::args::{
    Cas, CheckSnapshot, Command, Del, Get, Leader, LeaderCommand, List, Member as MemberArgs,
    MemberCommand, Put, RemoveMember, SaveSnapshot, Snapshot, SnapshotCommand, TransferLeader,
    duration,
};
use super::*;
use crate::client::fake::{FakeServer, found, kv, put_done, refusal, txn_result};
use crate::wire::client::{
    DeleteResult, Done, Identity, Member, MeshNode, NodeRole, NodeStatus, RangeResult, Status,
    mesh_node::State, op_result, request::Command as Asked, response::Result as Answer,
};

/// Words as a shell would cut them.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

struct Ran {
    code: u8,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

fn run_words(words: &[String], stdin: &[u8], addr: Option<String>, terminal: bool) -> Ran {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut process = Process {
        addr,
        debug_addr: None,
        stdin: &mut &*stdin,
        stdout: &mut stdout,
        terminal,
        stderr: &mut stderr,
    };
    let code = run(words, &mut process);
    Ran { code, stdout, stderr: String::from_utf8(stderr).unwrap() }
}

/// Runs a line against a server that gives one answer to all.
fn run_line(line: &str, stdin: &[u8], answer: Answer) -> Ran {
    let address = FakeServer::start().serve(move |_| answer.clone());
    run_words(&words(line), stdin, Some(address), false)
}

fn command(line: &str) -> Command {
    parse(&words(line)).unwrap_or_else(|exit| panic!("{line}: {}", exit.output)).command
}

fn get_k(stale: bool) -> Command {
    Command::Get(Get { stale, key: "k".into() })
}

fn put_k(value: &str) -> Command {
    Command::Put(Put { key: "k".into(), value: value.into() })
}

#[test]
fn options_stand_anywhere_with_one_dash_or_two() {
    for line in [
        "get k -addr h:1 --timeout 1s --json",
        "-addr h:1 get --timeout 1s k -json",
        "--addr=h:1 -timeout=1000ms --json get k",
        "get -addr h:1 --json -timeout 1s k",
        "--json -timeout 1s get --addr h:1 -- k",
    ] {
        let args = parse(&words(line)).unwrap();
        assert_eq!(args.addr.as_deref(), Some("h:1"), "{line}");
        assert_eq!((args.timeout, args.json), (Duration::from_secs(1), true), "{line}");
        assert_eq!(args.command, get_k(false), "{line}");
    }
    let list = List {
        from: Some("-5".into()),
        to: Some("b".into()),
        limit: Some(3),
        keys_only: true,
        count: true,
        stale: true,
        prefix: Some("p".into()),
    };
    let line = "list -limit 3 -keys-only p --from -5 --count -to=b --stale";
    assert_eq!(command(line), Command::List(list));
    assert_eq!(command("-stale get k"), get_k(true), "a command's option before the command");
}

#[test]
fn arguments_that_look_like_something_else() {
    for (line, expected) in [
        ("put k -", put_k("-")),
        ("put k -5", put_k("-5")),
        ("put k -- -x", put_k("-x")),
        ("put -- k --addr", put_k("--addr")),
        ("put k -- --", put_k("--")),
        ("put k help", put_k("help")),
        ("put k a=b", put_k("a=b")),
        ("del k --prefix", Command::Del(Del { prefix: true, key: "k".into() })),
        ("del --prefix k", Command::Del(Del { prefix: true, key: "k".into() })),
        (
            "cas k new --revision 7",
            Command::Cas(Cas {
                absent: false,
                revision: Some(7),
                key: "k".into(),
                values: vec!["new".into()],
            }),
        ),
    ] {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn wrong_usage_names_the_cause_and_exits_with_2() {
    for (line, expected) in [
        ("", "a command is missing: put, get, del, cas, list"),
        ("fetch k", "there is no command fetch: put, get,"),
        ("get", "key"),
        ("get k extra", "extra"),
        ("put k --jsno", "there is no option --jsno; if it is a key or a value, put -- before it"),
        ("get k --prefix", "--prefix"),
        ("get k --addr", "--addr needs a value"),
        ("get k --json=yes", "--json takes no value"),
        ("get k --timeout 5", "500ms, 1s or 2m"),
        ("get k --addr nowhere", "give host:port"),
        ("cas k new", "cas KEY NEW --absent"),
        ("cas k old new --absent", "cas KEY EXPECTED NEW"),
        ("list --limit 0", "at least 1"),
        ("list --prefix k", "list takes no --prefix: phalanx list [PREFIX] [--from KEY]"),
        ("list --keys", "there is no option --keys (is --keys-only meant?)"),
        ("list --limit x", "phalanx list [PREFIX]"),
        ("put k", "phalanx put KEY VALUE"),
        (
            "snapshot",
            "to do:\n    phalanx snapshot save FILE [--force]\n    phalanx snapshot check FILE\n",
        ),
        ("snapshot load f", "there is no command snapshot load:\n    phalanx snapshot save"),
        ("snapshot save", "phalanx snapshot save FILE [--force]"),
        ("snapshot save -", "- is no file"),
        ("snapshot check -", "- is no file"),
        ("txn when", "must be if, then or else"),
        ("member", "remove"),
        ("member add n", "add"),
        ("member remove", "name"),
        ("leader transfer a b", "b"),
    ] {
        let ran = run_words(&words(line), b"", Some("127.0.0.1:1".to_owned()), false);
        assert_eq!(ran.code, exit::USAGE, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{line}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{line}");
    }
}

#[test]
fn help_goes_to_standard_output() {
    for line in ["--help", "help", "-h", "-help"] {
        let ran = run_words(&words(line), b"", None, false);
        assert_eq!(ran.code, exit::DONE);
        assert!(ran.text().contains("unknown whether a change was made"), "{}", ran.text());
    }
    for line in ["txn --help", "help txn", "--help txn", "txn 'x' -help --json"] {
        let ran = run_words(&words(line), b"", None, false);
        assert_eq!(ran.code, exit::DONE, "{line}: {}", ran.stderr);
        assert!(ran.text().contains("if version KEY > 0"), "{}", ran.text());
        assert!(ran.text().contains("--addr"), "{}", ran.text());
    }
}

#[test]
fn commands_of_two_words() {
    let remove = |name: &str| {
        let command = MemberCommand::Remove(RemoveMember { name: name.into() });
        Command::Member(MemberArgs { command })
    };
    for (line, name) in [
        ("member remove n", "n"),
        ("--json member -addr h:1 remove --timeout 1s n", "n"),
        ("member remove n -json", "n"),
        ("member remove -- --addr", "--addr"),
        ("member remove help", "help"),
    ] {
        assert_eq!(command(line), remove(name), "{line}");
    }
    let save = |force| SnapshotCommand::Save(SaveSnapshot { force, file: "f".into() });
    let check = SnapshotCommand::Check(CheckSnapshot { file: "f".into() });
    for (line, snapshot) in [
        ("snapshot save f", save(false)),
        ("snapshot -force --json save f", save(true)),
        ("snapshot check f", check),
    ] {
        assert_eq!(command(line), Command::Snapshot(Snapshot { command: snapshot }), "{line}");
    }
    let transfer = LeaderCommand::Transfer(TransferLeader { name: "n".into() });
    assert_eq!(command("leader transfer n"), Command::Leader(Leader { command: transfer }));
    assert_eq!(command("put member remove"), {
        Command::Put(Put { key: "member".into(), value: "remove".into() })
    });
    for line in ["help member remove", "member remove --help", "-h member remove n"] {
        let ran = run_words(&words(line), b"", None, false);
        assert_eq!(ran.code, exit::DONE, "{line}: {}", ran.stderr);
        assert!(ran.text().contains("without a majority"), "{line}: {}", ran.text());
    }
    for line in ["member --help", "member help", "help member"] {
        let ran = run_words(&words(line), b"", None, false);
        assert_eq!(ran.code, exit::DONE, "{line}: {}", ran.stderr);
        assert!(ran.text().contains("Take a member out"), "{line}: {}", ran.text());
    }
}

#[test]
fn the_version_needs_no_command() {
    let version = format!("phalanx {}\n", env!("CARGO_PKG_VERSION"));
    for line in ["--version", "-version", "get k --version", "--json -version"] {
        let ran = run_words(&words(line), b"", None, false);
        assert_eq!((ran.code, ran.text()), (exit::DONE, &*version), "{line}: {}", ran.stderr);
    }
    let list = List { from: Some("--version".into()), ..LIST };
    assert_eq!(command("list --from --version"), Command::List(list), "a value is no option");
}

const LIST: List = List {
    from: None,
    to: None,
    limit: None,
    keys_only: false,
    count: false,
    stale: false,
    prefix: None,
};

#[test]
fn durations() {
    for (text, ms) in [("1ms", 1), ("500ms", 500), ("1s", 1000), ("2m", 120_000)] {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
    }
    for text in ["", "5", "s", "0s", "1.5s", "-1s", "1h", "99999999999999999999s", "61m"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn a_value_goes_in_and_out_unharmed() {
    let bytes: Vec<u8> = (0..=255).collect();
    let expected = bytes.clone();
    let address = FakeServer::start().serve(move |asked| match asked {
        Asked::Write(write) => {
            let expected = crate::client::op::put("k", &expected);
            assert_eq!(write.txn.unwrap().success, [expected]);
            put_done()
        }
        _ => Answer::Get(found(b"k", &expected)),
    });
    let ran = run_words(&words("put k -"), &bytes, Some(address.clone()), false);
    assert_eq!((ran.code, ran.text()), (exit::DONE, "ok, revision 101\n"), "{}", ran.stderr);
    let ran = run_words(&words("get k"), b"", Some(address), false);
    assert_eq!((ran.code, ran.stdout), (exit::DONE, bytes));
}

#[test]
fn a_terminal_gets_a_newline() {
    let address = FakeServer::start().serve(|_| Answer::Get(found(b"k", b"v")));
    let ran = run_words(&words("get k"), b"", Some(address), true);
    assert_eq!(ran.text(), "v\n");
}

#[test]
fn output_and_exit_codes() {
    let deleted = |deleted| {
        let result = DeleteResult { deleted, next: "".into() };
        txn_result(true, vec![op_result::Result::Delete(result)])
    };
    let differs = || txn_result(false, vec![op_result::Result::Get(found(b"k", b"a b"))]);
    let missing = || txn_result(false, vec![op_result::Result::Get(Default::default())]);
    let page = || {
        let kvs = vec![kv(b"a", b"1"), kv(b"b c", b"\xff")];
        Answer::Range(RangeResult { count: 2, kvs, next: "".into() })
    };
    let kv_json =
        r#""create_revision":3,"key":"k","mod_revision":5,"value":{"hex":"ff00"},"version":2"#;
    for (line, answer, code, stdout) in [
        ("get k", Answer::Get(Default::default()), 1, String::new()),
        (
            "get k --json",
            Answer::Get(Default::default()),
            1,
            "{\"kv\":null,\"revision\":101}\n".into(),
        ),
        (
            "get k --json",
            Answer::Get(found(b"k", b"\xff\0")),
            0,
            format!("{{\"kv\":{{{kv_json}}},\"revision\":101}}\n"),
        ),
        ("put k v --json", put_done(), 0, "{\"replaced\":false,\"revision\":101}\n".into()),
        ("del k", deleted(1), 0, "deleted 1, revision 101\n".into()),
        ("del k", deleted(0), 1, "deleted 0, revision 101\n".into()),
        ("del k --prefix", deleted(7), 0, "deleted 7, revision 101\n".into()),
        ("cas k a b", put_done(), 0, "ok, revision 101\n".into()),
        ("cas k a b", differs(), 1, "k is \"a b\", written by revision 5\n".into()),
        ("cas k b --revision 4", missing(), 1, "k does not exist\n".into()),
        ("list", page(), 0, "a\t1\n\"b c\"\t\"\\xff\"\n".into()),
        ("list --keys-only", page(), 0, "a\n\"b c\"\n".into()),
        ("list --limit 1", page(), 0, "a\t1\n".into()),
        ("list --count", page(), 0, "2\n".into()),
        ("member remove node-3", Answer::Done(Done {}), 0, "removed node-3\n".into()),
        (
            "member remove node-3 --json",
            Answer::Done(Done {}),
            0,
            "{\"removed\":\"node-3\"}\n".into(),
        ),
        ("leader transfer node-2", Answer::Done(Done {}), 0, "node-2 leads\n".into()),
        (
            "leader transfer node-2 --json",
            Answer::Done(Done {}),
            0,
            "{\"leader\":\"node-2\"}\n".into(),
        ),
    ] {
        let ran = run_line(line, b"", answer);
        assert_eq!((ran.code, ran.text()), (code, &*stdout), "{line}: {}", ran.stderr);
    }
}

#[test]
fn a_transaction_from_standard_input() {
    let text = b"if value k = \"a b\"\nthen put k c\nelse get k\n";
    let answer = txn_result(false, vec![op_result::Result::Get(found(b"k", b"d e"))]);
    let ran = run_line("txn", text, answer);
    assert_eq!(ran.code, exit::NOT_DONE);
    assert_eq!(ran.text(), "the compares failed, revision 101\nget k: \"d e\"\n");
    let ran = run_line("txn --json", text, put_done());
    assert_eq!(ran.code, exit::DONE);
    assert_eq!(
        ran.text(),
        "{\"results\":[{\"replaced\":false}],\"revision\":101,\"succeeded\":true}\n"
    );
}

#[test]
fn refusals_and_lost_answers_have_their_codes() {
    for (code, expected) in [
        (Code::Invalid, exit::USAGE),
        (Code::TooLarge, exit::USAGE),
        (Code::NoSpace, exit::UNAVAILABLE),
    ] {
        let ran = run_line("put k v", b"", Answer::Error(refusal(code)));
        assert_eq!(ran.code, expected, "{}", ran.stderr);
        assert!(ran.stderr.contains(code.as_str_name()), "{}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
    for line in ["member remove nobody", "leader transfer nobody"] {
        let ran = run_line(line, b"", Answer::Error(refusal(Code::Invalid)));
        assert_eq!(ran.code, exit::USAGE, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains("scripted INVALID"), "{}", ran.stderr);
    }
    let ran = run_line("member remove n", b"", Answer::Error(refusal(Code::Timeout)));
    assert_eq!(ran.code, exit::UNAVAILABLE);
    assert!(ran.stderr.contains("may or may not"), "{}", ran.stderr);
    let ran = run_line("get k", b"", Answer::Get(Default::default()));
    assert_eq!((ran.code, &*ran.stderr), (exit::NOT_DONE, "phalanx: there is no key k\n"));
    let nobody = FakeServer::nobody();
    let ran = run_words(&words("get k --timeout 100ms"), b"", Some(nobody.address()), false);
    assert_eq!(ran.code, exit::UNAVAILABLE);
    assert!(ran.stderr.contains(&nobody.address()), "{}", ran.stderr);
}

#[test]
fn a_value_over_the_limit_is_not_read_to_its_end() {
    let value = vec![b'v'; crate::limits::VALUE_LEN_MAX + 1];
    let ran = run_words(&words("put k -"), &value, Some("127.0.0.1:1".to_owned()), false);
    assert_eq!(ran.code, exit::USAGE);
    assert!(ran.stderr.contains("over the limit"), "{}", ran.stderr);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let address = FakeServer::start().serve(|_| Answer::Get(found(b"k", b"v")));
    let mut stderr = Vec::new();
    let mut process = Process {
        addr: Some(address),
        debug_addr: None,
        stdin: &mut io::empty(),
        stdout: &mut Closed,
        terminal: false,
        stderr: &mut stderr,
    };
    assert_eq!(run(&words("get k"), &mut process), exit::DONE);
    assert!(stderr.is_empty());
}

fn node(raft_id: u64, role: NodeRole, commit: u64, applied: u64) -> NodeStatus {
    NodeStatus {
        identity: Some(Identity { raft_id, ..Identity::default() }),
        role: role.into(),
        term: 3,
        commit,
        applied,
        ..NodeStatus::default()
    }
}

#[test]
fn status_asks_every_member_and_prints_a_table() {
    let answer = |node, members| {
        Answer::Status(Box::new(Status { node: Some(node), members, ..Status::default() }))
    };
    let leader =
        FakeServer::start().serve(move |_| answer(node(1, NodeRole::Leader, 120, 120), Vec::new()));
    let member = |raft_id, name: &str, address: &str| Member {
        raft_id,
        name: name.into(),
        address: address.into(),
        ..Member::default()
    };
    let members = vec![
        member(3, "node-3", ""),
        member(1, "node-1", &leader),
        member(2, "node-2", "h:9000"),
        // Another node lives at that address now.
        member(4, "node-4", &leader),
    ];
    let asked = FakeServer::start()
        .serve(move |_| answer(node(2, NodeRole::Follower, 110, 105), members.clone()));
    let ran = run_words(&words("status"), b"", Some(asked.clone()), false);
    assert_eq!(ran.code, exit::DONE, "{}", ran.stderr);
    let lines: Vec<Vec<&str>> =
        ran.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "ROLE", "TERM", "COMMIT", "APPLIED", "LAG", "ADDRESS"]);
    assert_eq!(lines[1], ["node-1", "leader", "3", "120", "120", "0", &*leader]);
    assert_eq!(lines[2], ["node-2", "follower", "3", "110", "105", "15", "h:9000"]);
    assert_eq!(lines[3], ["node-3", "unreachable", "-", "-", "-", "-", "-"]);
    assert_eq!(lines[4], ["node-4", "unreachable", "-", "-", "-", "-", &*leader]);
    let column = ran.text().find("ROLE").unwrap();
    for (line, role) in ran.text().lines().zip(["ROLE", "leader", "follower", "unreachable"]) {
        assert!(line[column..].starts_with(role), "aligned: {line}");
    }
}

#[test]
fn status_does_not_ask_whom_gossip_calls_dead_or_gone() {
    // All of them would answer: who is shown as unreachable was not asked.
    let answers = |raft_id| {
        FakeServer::start().serve(move |_| {
            let node = Some(node(raft_id, NodeRole::Follower, 120, 120));
            Answer::Status(Box::new(Status { node, ..Status::default() }))
        })
    };
    let states = [(1, State::Suspect), (3, State::Dead), (4, State::Left)];
    let status = Status {
        node: Some(node(2, NodeRole::Leader, 120, 120)),
        members: states
            .map(|(id, _)| Member { address: answers(id), ..member(id, "node", true, 0) })
            .to_vec(),
        mesh: states.map(|(id, state)| mesh_node(id, "node", state, 7, None)).to_vec(),
        ..Status::default()
    };
    let ran = run_line("status", b"", Answer::Status(Box::new(status)));
    assert_eq!(ran.code, exit::DONE, "{}", ran.stderr);
    let roles: Vec<&str> =
        ran.text().lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(roles, ["ROLE", "leader", "follower", "unreachable", "unreachable"]);
}

fn member(raft_id: u64, name: &str, voter: bool, matched: u64) -> Member {
    Member { raft_id, name: name.into(), voter, matched, ..Member::default() }
}

fn mesh_node(raft_id: u64, name: &str, state: State, cluster: u8, rtt_us: Option<u64>) -> MeshNode {
    MeshNode {
        raft_id,
        name: name.into(),
        state: state.into(),
        address: format!("h{raft_id}:9000"),
        cluster_id: vec![cluster; if cluster == 0 { 0 } else { 16 }].into(),
        rtt_us,
        ..MeshNode::default()
    }
}

/// The status of node-2, which follows node-1 at `leader`.
fn mesh_status(leader: &str) -> Status {
    let mut own = node(2, NodeRole::Follower, 0, 0);
    let identity = own.identity.get_or_insert_default();
    identity.cluster_id = vec![7; 16].into();
    identity.name = "node-2".into();
    Status {
        node: Some(own),
        members: vec![
            member(1, "node-1", true, 0),
            member(2, "node-2", true, 0),
            member(3, "node-3", false, 0),
            member(4, "node-4", true, 0),
        ],
        leader_raft_id: 1,
        leader_name: "node-1".into(),
        unavailable: String::new(),
        mesh: vec![
            mesh_node(2, "node-2", State::Alive, 7, None),
            MeshNode {
                address: leader.into(),
                region: "fra".into(),
                ..mesh_node(1, "node-1", State::Alive, 7, Some(310))
            },
            mesh_node(3, "node-3", State::Suspect, 7, Some(182_400)),
            mesh_node(30, "node-3", State::Suspect, 0, None),
            mesh_node(5, "other", State::Alive, 9, Some(20)),
            // What is gone and no member is not shown.
            mesh_node(31, "node-1", State::Dead, 7, None),
            mesh_node(32, "node-5", State::Left, 7, None),
        ],
    }
}

#[test]
fn members_joins_what_gossip_and_the_log_know() {
    let mut leads = mesh_status("");
    let mut own = node(1, NodeRole::Leader, 0, 0);
    own.last_index = 120;
    leads.node = Some(own);
    leads.members = vec![
        member(1, "node-1", true, 120),
        member(2, "node-2", true, 119),
        member(3, "node-3", false, 0),
    ];
    let leader = FakeServer::start().serve(move |_| Answer::Status(Box::new(leads.clone())));
    let asked = mesh_status(&leader);
    let ran = run_line("members", b"", Answer::Status(Box::new(asked)));
    assert_eq!(ran.code, exit::DONE, "{}", ran.stderr);
    let lines: Vec<Vec<&str>> =
        ran.text().lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        vec!["NAME", "RAFT", "ID", "ROLE", "STATE", "REGION", "ADDRESS", "RTT", "LAG"],
        vec!["node-1", "1", "leader", "alive", "fra", &leader, "0.3ms", "0"],
        vec!["node-2", "2", "voter", "alive", "-", "h2:9000", "0ms", "1"],
        vec!["node-3", "3", "learner", "suspect", "-", "h3:9000", "182ms", "120"],
        // Two nodes under one name, of which one is no member.
        vec!["node-3", "30", "none", "suspect", "-", "h30:9000", "-", "-"],
        // A member of which gossip has never heard, and of which the leader does not tell.
        vec!["node-4", "4", "voter", "-", "-", "-", "-", "-"],
        vec!["other", "5", "foreign", "alive", "-", "h5:9000", "<0.1ms", "-"],
    ];
    assert_eq!(lines, expected);
}

#[test]
fn members_does_without_a_leader_that_does_not_answer() {
    let nobody = FakeServer::nobody();
    let address = nobody.address();
    let ran = run_line("members --json", b"", Answer::Status(Box::new(mesh_status(&address))));
    assert_eq!(ran.code, exit::DONE, "{}", ran.stderr);
    let json: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!(json["leader"], "node-1");
    let nodes = json["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 6);
    assert!(nodes.iter().all(|node| node["lag"].is_null()), "{json}");
    assert_eq!((&nodes[0]["rtt_us"], &nodes[0]["address"]), (&310.into(), &address.into()));
    assert!(nodes[4]["state"].is_null(), "{json}");
}

#[test]
fn members_of_a_node_that_belongs_to_no_cluster() {
    let mut own = node(2, NodeRole::Forming, 0, 0);
    own.identity.get_or_insert_default().name = "node-2".into();
    let other = MeshNode {
        role: NodeRole::Follower.into(),
        ..mesh_node(1, "node-1", State::Alive, 7, Some(9_960))
    };
    let status = Status {
        node: Some(own),
        mesh: vec![other],
        unavailable: "forming: waits for node-3".into(),
        ..Status::default()
    };
    let ran = run_line("members", b"", Answer::Status(Box::new(status)));
    assert_eq!(ran.code, exit::DONE, "{}", ran.stderr);
    let lines: Vec<String> = (ran.text().lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines[1], "node-1 1 voter alive - h1:9000 10ms -");
    assert_eq!(lines[2], "node-2 2 none alive - - 0ms -");
    assert_eq!(lines[3], "unavailable: forming: waits for node-3");
}
