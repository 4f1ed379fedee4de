//! What is read from flags and environment, what is refused, and what is said then.

use super::*;
use crate::error::Error;
use crate::limits::{MEMBERS_MAX, NAME_LEN_MAX};

/// Parses what a shell would: `NAME=value` words are the environment, the rest are arguments.
fn run(line: &str) -> Result<Action> {
    let is_variable = |word: &&str| word.starts_with(|c: char| c.is_ascii_uppercase());
    let env: Vec<(&str, &str)> = line
        .split_whitespace()
        .take_while(is_variable)
        .map(|word| word.split_once('=').unwrap())
        .collect();
    let args: Vec<String> =
        line.split_whitespace().skip_while(is_variable).map(String::from).collect();
    let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
    parse(&args, &lookup, "host-1")
}

fn settings(line: &str) -> Settings {
    match run(line) {
        Ok(Action::Run(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    match run(line) {
        Err(Error::Config(what)) => what,
        other => panic!("{line}: {other:?}"),
    }
}

fn printed(line: &str) -> String {
    match run(line) {
        Ok(Action::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

fn address(text: &str) -> HostPort {
    text.parse().unwrap()
}

fn defaults() -> Settings {
    Settings {
        node_id: "host-1".into(),
        peers: Vec::new(),
        gossip: Gossip {
            bind: GossipBind { host: "::".into(), ports: 7946..=7946 },
            seeds: Vec::new(),
            advertise_addr: None,
            region: String::new(),
        },
        target_voters: 5,
        dead_after: Duration::from_secs(300),
        max_bytes: 4 << 30,
        expect: 1,
        bootstrap: Bootstrap::Auto,
        data_dir: "/data".into(),
        listen_addr: address("[::]:9000"),
        debug_addr: Some(address("[::]:8080")),
        tick_ms: 200,
        election: 20,
        heartbeat: 5,
        cpu: Cpu::Auto,
        log: "info".into(),
        restore: None,
        warnings: Vec::new(),
    }
}

#[test]
fn nothing_given_gives_the_defaults() {
    assert_eq!(settings(""), defaults());
}

#[test]
fn the_defaults_of_the_table_are_those_that_are_taken() {
    let computed = ["NODE_ID", "PEERS", "SEEDS", "ADVERTISE_ADDR", "REGION", "EXPECT"];
    for setting in SETTINGS.iter().filter(|setting| !computed.contains(&setting.name)) {
        let line = format!("{}={}", setting.name, setting.default);
        assert_eq!(settings(&line), defaults(), "{line}");
    }
}

/// For each setting: its name, its flag, and two values that differ.
const SAMPLES: &[(&str, &str, &str)] = &[
    ("NODE_ID", "a", "b"),
    ("PEERS", "a@h:1", "b@h:1"),
    ("SEEDS", "a", "b:1"),
    ("BIND_ADDR", "10.0.0.1", "[::1]"),
    ("BIND_PORT", "0", "1"),
    ("ADVERTISE_ADDR", "a", "b:1"),
    ("REGION", "ams", "nrt"),
    ("TARGET_VOTERS", "1", "3"),
    ("DEAD_AFTER", "1s", "2m"),
    ("MAX_BYTES", "1GiB", "2GiB"),
    ("EXPECT", "2", "3"),
    ("BOOTSTRAP", "never", "auto"),
    ("DATA_DIR", "a", "b"),
    ("LISTEN_ADDR", "a:1", "b:1"),
    ("GRPC_ADDR", "a:1", "b:1"),
    ("DEBUG_ADDR", "none", "b:1"),
    ("TICK_MS", "1", "2"),
    ("ELECTION", "30", "40"),
    ("HEARTBEAT", "1", "2"),
    ("CPU", "none", "7"),
    ("LOG", "warn", "debug"),
];

#[test]
fn every_setting_is_a_variable_and_a_flag_and_the_flag_wins() {
    for setting in SETTINGS {
        assert!(SAMPLES.iter().any(|(name, ..)| *name == setting.name), "{}", setting.name);
        assert_eq!(setting.flag, format!("--{}", setting.name.to_lowercase().replace('_', "-")));
    }
    for (name, one, other) in SAMPLES {
        // SEEDS alone would need EXPECT.
        let settings = |line: &str| match *name {
            "SEEDS" => settings(&format!("EXPECT=1 {line}")),
            _ => settings(line),
        };
        let flag = name.to_lowercase().replace('_', "-");
        let by_variable = settings(&format!("{name}={one}"));
        assert_ne!(by_variable, settings(&format!("{name}={other}")));
        for dashed in
            [format!("--{flag} {one}"), format!("-{flag} {one}"), format!("-{flag}={one}")]
        {
            assert_eq!(settings(&dashed), by_variable, "{dashed}");
            assert_eq!(settings(&format!("{name}={other} {dashed}")), by_variable, "{dashed}");
        }
        assert_eq!(settings(&format!("{name}=")), defaults(), "an empty {name} counts as unset");
    }
}

#[test]
fn the_command_line_of_a_single_node() {
    let settings = settings(
        "NODE_ID=node-1 DATA_DIR=./data GRPC_ADDR=127.0.0.1:9000 DEBUG_ADDR=127.0.0.1:8080 \
         TICK_MS=100 ELECTION=10 HEARTBEAT=3",
    );
    let [warning] = settings.warnings.as_slice() else { panic!("{:?}", settings.warnings) };
    assert!(warning.contains("at least 12 is advised"), "{warning}");
    assert_eq!(settings.election_timeout(), Duration::from_millis(1000));
    assert_eq!(settings.heartbeat_interval(), Duration::from_millis(300));
    let expected = Settings {
        node_id: "node-1".into(),
        data_dir: "./data".into(),
        listen_addr: address("127.0.0.1:9000"),
        debug_addr: Some(address("127.0.0.1:8080")),
        gossip: Gossip {
            bind: GossipBind { host: "127.0.0.1".into(), ports: 7946..=7961 },
            seeds: (7946..=7961).map(|port| address(&format!("127.0.0.1:{port}"))).collect(),
            ..defaults().gossip
        },
        tick_ms: 100,
        election: 10,
        heartbeat: 3,
        warnings: settings.warnings.clone(),
        ..defaults()
    };
    assert_eq!(settings, expected);
}

#[test]
fn an_election_of_four_heartbeats_is_no_longer_warned_of() {
    assert_eq!(settings("ELECTION=11 HEARTBEAT=3").warnings.len(), 1);
    assert!(settings("ELECTION=12 HEARTBEAT=3").warnings.is_empty());
}

#[test]
fn this_node_is_taken_out_of_its_peers() {
    let list = "PEERS=node-1@10.0.0.1:9000,node-2@10.0.0.2:9000,node-3@[::3]:9000,";
    let of_one = settings(&format!("NODE_ID=node-1 {list}"));
    let peer = |name: &str, at: &str| Peer { name: name.into(), address: Some(address(at)) };
    assert_eq!(of_one.peers, [peer("node-2", "10.0.0.2:9000"), peer("node-3", "[::3]:9000")]);
    assert_eq!(of_one.gossip.advertise_addr, Some(address("10.0.0.1:9000")));
    assert_eq!(of_one.expect, 3);

    let of_another = settings(&format!("NODE_ID=node-4 {list}"));
    assert_eq!((of_another.peers.len(), of_another.gossip.advertise_addr), (3, None));
    assert_eq!(of_another.expect, 4);
}

#[test]
fn a_peer_may_be_a_name_alone() {
    let settings = settings("NODE_ID=node-0 PEERS=node-0,node-1,node-2@10.0.0.2:9000");
    let peer = |name: &str, address: Option<HostPort>| Peer { name: name.into(), address };
    let expected = [peer("node-1", None), peer("node-2", Some(address("10.0.0.2:9000")))];
    assert_eq!(settings.peers, expected);
    assert_eq!((settings.expect, settings.gossip.advertise_addr), (3, None));
}

#[test]
fn a_number_of_bytes_may_have_a_unit() {
    let sizes =
        [("0", 0), ("100", 100), ("3KiB", 3 << 10), ("512MiB", 512 << 20), ("8GiB", 8 << 30)];
    for (text, bytes) in sizes {
        assert_eq!(settings(&format!("MAX_BYTES={text}")).max_bytes, bytes, "{text}");
    }
    for (text, warned) in [("32GiB", false), ("33GiB", true), ("0", true)] {
        let warnings = settings(&format!("MAX_BYTES={text}")).warnings;
        assert_eq!(warnings.iter().any(|it| it.contains("32 GiB are advised")), warned, "{text}");
    }
}

#[test]
fn a_time_has_a_unit() {
    for (text, ms) in [("1s", 1000), ("1500ms", 1500), ("5m", 300_000), ("168h", 604_800_000)] {
        let settings = settings(&format!("DEAD_AFTER={text}"));
        assert_eq!(settings.dead_after, Duration::from_millis(ms), "{text}");
    }
}

#[test]
fn gossip_of_a_loopback_node_stays_there_and_shares_a_range_of_ports() {
    let bind = |line: &str| {
        let GossipBind { host, ports } = settings(line).gossip.bind;
        format!("{host} {}-{}", ports.start(), ports.end())
    };
    for (line, expected) in [
        ("", ":: 7946-7946"),
        ("LISTEN_ADDR=10.0.0.1:9000", ":: 7946-7946"),
        ("LISTEN_ADDR=127.0.0.1:9000", "127.0.0.1 7946-7961"),
        ("GRPC_ADDR=[::1]:9000", "::1 7946-7961"),
        ("GRPC_ADDR=localhost:9000", "localhost 7946-7961"),
        ("GRPC_ADDR=localhost:9000 BIND_PORT=5", "localhost 5-5"),
        ("GRPC_ADDR=127.0.0.1:9000 BIND_PORT=0", "127.0.0.1 0-0"),
        ("GRPC_ADDR=127.0.0.1:9000 BIND_ADDR=[::]", ":: 7946-7946"),
        ("GRPC_ADDR=127.0.0.1:9000 BIND_ADDR=::1 BIND_PORT=5", "::1 5-5"),
        ("BIND_ADDR=node-1.internal", "node-1.internal 7946-7946"),
    ] {
        assert_eq!(bind(line), expected, "{line}");
    }
}

#[test]
fn seeds_are_guessed_where_none_are_given() {
    let seeds = |line: &str| {
        let seeds = settings(line).gossip.seeds;
        seeds.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let on_loopback: Vec<String> = (7946..=7961).map(|port| format!("[::1]:{port}")).collect();
    let peers = "PEERS=a@10.0.0.1:1,b@10.0.0.1:2,c@[::3]:1,d";
    for (line, expected) in [
        ("", ""),
        (peers, "10.0.0.1:7946 [::3]:7946"),
        (&format!("{peers} BIND_PORT=5"), "10.0.0.1:5 [::3]:5"),
        (&format!("{peers} BIND_PORT=0"), "10.0.0.1:7946 [::3]:7946"),
        (&format!("{peers} SEEDS=e,f:1,e:7946"), "e:7946 f:1"),
        (&format!("{peers} LISTEN_ADDR=[::1]:9000"), &on_loopback.join(" ")),
        (&format!("{peers} LISTEN_ADDR=[::1]:9000 BIND_PORT=5"), "10.0.0.1:5 [::3]:5"),
        ("LISTEN_ADDR=[::1]:9000 BIND_PORT=5", ""),
        ("LISTEN_ADDR=[::1]:9000 SEEDS=e EXPECT=3", "e:7946"),
        ("SEEDS=[fe80::1],10.0.0.1:80 BOOTSTRAP=never", "[fe80::1]:7946 10.0.0.1:80"),
    ] {
        assert_eq!(seeds(line), expected, "{line}");
    }
}

#[test]
fn where_a_node_is_reached_is_told_or_follows() {
    let advertised = |line: &str| settings(line).gossip.advertise_addr.map(|it| it.to_string());
    let peers = "NODE_ID=a PEERS=a@10.0.0.1:1,b";
    for (line, expected) in [
        ("LISTEN_ADDR=10.0.0.1:9000", None),
        ("ADVERTISE_ADDR=node-1", Some("node-1:0")),
        ("ADVERTISE_ADDR=[::1]:5", Some("[::1]:5")),
        ("FLY_PRIVATE_IP=fdaa::3", Some("[fdaa::3]:0")),
        (&format!("FLY_PRIVATE_IP=fdaa::3 {peers}"), Some("10.0.0.1:1")),
        (&format!("ADVERTISE_ADDR=c:7 FLY_PRIVATE_IP=fdaa::3 {peers}"), Some("c:7")),
    ] {
        assert_eq!(advertised(line).as_deref(), expected, "{line}");
    }
}

#[test]
fn the_region_is_that_of_the_platform_unless_it_is_given() {
    assert_eq!(settings("FLY_REGION=ams").gossip.region, "ams");
    assert_eq!(settings("FLY_REGION=ams REGION=nrt").gossip.region, "nrt");
}

#[test]
fn an_expect_that_two_clusters_could_meet_is_refused() {
    for nodes in 1..=9 {
        let peers: Vec<String> = (1..nodes).map(|n| format!("p{n}@h:{n}")).collect();
        for expect in 1..=12 {
            let line = format!("PEERS={} EXPECT={expect}", peers.join(","));
            // Split the nodes in two in every way: does one side at most have a majority?
            let majority = expect / 2 + 1;
            let safe = (0..=nodes).all(|part| part < majority || nodes - part < majority);
            match run(&line) {
                Ok(_) => assert!(safe, "{line}"),
                Err(error) => {
                    assert!(!safe, "{line}");
                    assert!(error.to_string().contains("could each form a cluster"), "{error}");
                }
            }
        }
    }
}

#[test]
fn the_older_name_of_the_listen_address() {
    assert_eq!(settings("LISTEN_ADDR=a:1 GRPC_ADDR=a:1").listen_addr, address("a:1"));
    assert_eq!(settings("GRPC_ADDR=a:1 --listen-addr b:2").listen_addr, address("b:2"));
    assert_eq!(settings("LISTEN_ADDR=a:1 --grpc-addr b:2").listen_addr, address("b:2"));
    for line in ["LISTEN_ADDR=a:1 GRPC_ADDR=b:2", "--listen-addr a:1 --grpc-addr b:2"] {
        assert!(refused(line).contains("is `b:2`: drop one of them"), "{line}");
    }
}

#[test]
fn rust_log_is_read_where_log_is_not_given() {
    assert_eq!(settings("RUST_LOG=warn").log, "warn");
    assert_eq!(settings("RUST_LOG=warn LOG=debug").log, "debug");
    assert_eq!(settings("RUST_LOG=warn --log trace").log, "trace");
    assert_eq!(settings("RUST_LOG=of-another-program LOG=debug").log, "debug");
}

#[test]
fn the_log_has_levels_and_levels_of_modules() {
    for filter in ["off", "WARN", "info,", "info,phalanx::node=debug", "a-b=off", "debug/raft id"] {
        let log = parse(&["--log".into(), filter.into()], &|_| None, "h");
        let Ok(Action::Run(settings)) = log else { panic!("{filter}: {log:?}") };
        assert_eq!(settings.log, filter);
    }
}

#[test]
fn each_refusal_names_the_setting_the_value_and_the_way_out() {
    let long = "n".repeat(NAME_LEN_MAX + 1);
    for (line, told) in [
        ("NODE_ID=a@b", "NODE_ID is `a@b`: a name has 1 to 128 printable ASCII characters"),
        ("NODE_ID=a,b", "NODE_ID is `a,b`: a name has"),
        ("NODE_ID=é", "NODE_ID is `é`: a name has"),
        (&format!("NODE_ID={long}"), "NODE_ID is `nnn"),
        (
            "PEERS=a@h:1,b@10.0.0.2",
            "PEERS is `a@h:1,b@10.0.0.2`: in `b@10.0.0.2`: the port is missing: write \
             `10.0.0.2:PORT`",
        ),
        ("PEERS=a@h:0", "PEERS is `a@h:0`: in `a@h:0`: port 0 cannot be reached"),
        ("PEERS=a,b@h:1,a", "PEERS is `a,b@h:1,a`: the name `a` is in it twice"),
        ("SEEDS=,", "SEEDS is `,`: there is no seed in it"),
        ("SEEDS=a:x", "SEEDS is `a:x`: in `a:x`: `x` is no port"),
        ("SEEDS=a:0", "SEEDS is `a:0`: in `a:0`: port 0 cannot be reached"),
        ("SEEDS=::1", "SEEDS is `::1`: in `::1`: an IPv6 address goes in brackets"),
        ("SEEDS=a", "SEEDS is set, and neither PEERS nor EXPECT: set EXPECT to the size of"),
        ("SEEDS=a EXPECT=0", "EXPECT is `0`: it must be a number of 1 to 64"),
        ("BIND_ADDR=10.0.0.1:7946", "BIND_ADDR is `10.0.0.1:7946`: it must be an IP address or a"),
        ("BIND_ADDR=[::1]:7946", "BIND_ADDR is `[::1]:7946`: it must be an IP address or a host"),
        ("BIND_PORT=65536", "BIND_PORT is `65536`: it must be a number of 0 to 65535"),
        ("ADVERTISE_ADDR=[::]:9000", "ADVERTISE_ADDR is `[::]:9000`: nobody can be reached at a"),
        ("ADVERTISE_ADDR=::1", "ADVERTISE_ADDR is `::1`: an IPv6 address goes in brackets"),
        ("FLY_PRIVATE_IP=here", "FLY_PRIVATE_IP is `here`: it must be an IP address"),
        ("REGION=é", "REGION is `é`: a region has at most 64 printable ASCII characters"),
        ("FLY_REGION=é", "FLY_REGION is `é`: a region has"),
        ("TARGET_VOTERS=2", "TARGET_VOTERS is `2`: it must be 1, 3 or 5"),
        ("TARGET_VOTERS=7", "TARGET_VOTERS is `7`: it must be 1, 3 or 5"),
        ("MAX_BYTES=1GB", "MAX_BYTES is `1GB`: it must be a whole number of bytes, or of KiB, MiB"),
        ("MAX_BYTES=MiB", "MAX_BYTES is `MiB`: it must be a whole number"),
        ("MAX_BYTES=-1", "MAX_BYTES is `-1`: it must be a whole number"),
        ("MAX_BYTES=1.5GiB", "MAX_BYTES is `1.5GiB`: it must be a whole number"),
        ("MAX_BYTES=17179869184GiB", "MAX_BYTES is `17179869184GiB`: it must be a whole number"),
        ("DEAD_AFTER=5", "DEAD_AFTER is `5`: it must be a whole number and a unit, as in 300s or"),
        ("DEAD_AFTER=999ms", "DEAD_AFTER is `999ms`: it must be of 1s to 168h"),
        ("DEAD_AFTER=169h", "DEAD_AFTER is `169h`: it must be of 1s to 168h"),
        ("DEAD_AFTER=s", "DEAD_AFTER is `s`: it must be of 1s to 168h"),
        ("DEAD_AFTER=-5m", "DEAD_AFTER is `-5m`: it must be a whole number and a unit"),
        ("PEERS=@h:1", "PEERS is `@h:1`: in `@h:1`: a name has"),
        ("PEERS=a@h:1,a@h:2", "PEERS is `a@h:1,a@h:2`: the name `a` is in it twice"),
        ("PEERS=host-1@h:1,host-1@h:2", "PEERS is `host-1@h:1,host-1@h:2`: the name `host-1` is"),
        ("PEERS=a@h:1,b@h:1", "PEERS is `a@h:1,b@h:1`: the address `h:1` is in it twice"),
        ("EXPECT=0", "EXPECT is `0`: it must be a number of 1 to 64"),
        ("EXPECT=65", "EXPECT is `65`: it must be a number of 1 to 64"),
        ("BOOTSTRAP=yes", "BOOTSTRAP is `yes`: it must be `auto` or `never`"),
        ("LISTEN_ADDR=localhost", "LISTEN_ADDR (or GRPC_ADDR) is `localhost`: the port is missing"),
        ("GRPC_ADDR=:9000", "LISTEN_ADDR (or GRPC_ADDR) is `:9000`: the host is missing"),
        ("DEBUG_ADDR=8080", "DEBUG_ADDR is `8080`: the host is missing: write `HOST:PORT`, as in"),
        ("LISTEN_ADDR=h:1 DEBUG_ADDR=h:1", "LISTEN_ADDR and DEBUG_ADDR are both `h:1`: give each"),
        ("TICK_MS=0", "TICK_MS is `0`: it must be a number of 1 to 10000"),
        ("TICK_MS=10001", "TICK_MS is `10001`: it must be a number of 1 to 10000"),
        ("TICK_MS=-1", "TICK_MS is `-1`: it must be a number of 1 to 10000"),
        ("TICK_MS=1s", "TICK_MS is `1s`: it must be a number of 1 to 10000"),
        ("ELECTION=1001", "ELECTION is `1001`: it must be a number of 1 to 1000"),
        ("HEARTBEAT=0", "HEARTBEAT is `0`: it must be a number of 1 to 1000"),
        ("ELECTION=5", "ELECTION is `5` and HEARTBEAT is `5`: ELECTION must be the larger"),
        ("CPU=some", "CPU is `some`: it must be `auto`, `none`, or the number of a core"),
        ("LOG=inof", "LOG is `inof`: `inof` is no level: write off, error, warn, info, debug or"),
        ("LOG=blah=,,", "LOG is `blah=,,`: in `blah=`: `` is no level: write off, error"),
        ("LOG=info,a=b=warn", "LOG is `info,a=b=warn`: in `a=b=warn`: `b=warn` is no level"),
        ("LOG==info", "LOG is `=info`: in `=info`: before `=` goes the path of a module"),
        ("LOG=a[b]=info", "LOG is `a[b]=info`: in `a[b]=info`: before `=` goes the path of a"),
        ("LOG=,", "LOG is `,`: there is no level in it: write off"),
        ("LOG=/text", "LOG is `/text`: there is no level in it"),
        ("LOG=info/a/b", "LOG is `info/a/b`: it has more than one `/`"),
        ("--log=", "LOG is ``: there is no level in it"),
        ("RUST_LOG=blah", "RUST_LOG is `blah`: `blah` is no level"),
        ("--data-dir=", "DATA_DIR is ``: it must name a directory"),
        ("--node-id=", "NODE_ID is ``: a name has"),
        ("--tick-ms", "No value provided for option '--tick-ms'"),
        ("--tick 5", "Unrecognized argument: --tick (see --help)"),
        ("node-1", "Unrecognized argument: node-1 (see --help)"),
        ("--cpu 1 --cpu 2", "Error parsing option '--cpu' with value '2': duplicate values"),
    ] {
        let error = refused(line);
        assert!(error.starts_with(told), "{line} gives {error}");
        assert!(!error.contains('\n'), "one refusal: {error}");
    }
}

#[test]
fn a_cluster_over_the_limit_is_refused() {
    let peers = |count: usize| {
        let entries: Vec<String> = (1..=count).map(|n| format!("p{n}@h:{n}")).collect();
        format!("PEERS={}", entries.join(","))
    };
    assert_eq!(settings(&peers(MEMBERS_MAX - 1)).expect, MEMBERS_MAX);
    let error = refused(&peers(MEMBERS_MAX));
    assert_eq!(error, "PEERS and this node are 65 nodes: a cluster has at most 64");
}

#[test]
fn a_hostname_that_is_no_name_is_refused_only_where_it_is_needed() {
    let error = parse(&[], &|_| None, "my host").unwrap_err().to_string();
    assert!(
        error.starts_with("NODE_ID is not set, and the hostname is `my host`: a name"),
        "{error}"
    );
    assert!(parse(&["--node-id=a".into()], &|_| None, "my host").is_ok());
}

#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let env = |name: &str| (name == "DATA_DIR").then(|| OsString::from_vec(b"/d\xff".to_vec()));
    let error = parse(&[], &env, "h").unwrap_err().to_string();
    assert_eq!(error, "DATA_DIR is `/d\u{fffd}`: it must be valid UTF-8");
}

#[test]
fn all_refusals_are_told_at_once_and_none_follows_from_another() {
    // ELECTION=x falls back to 20, which HEARTBEAT=30 must not be held against.
    let error = refused("TICK_MS=0 ELECTION=x HEARTBEAT=30 CPU=some");
    let names: Vec<&str> = error.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["TICK_MS", "ELECTION", "CPU"], "{error}");
}

#[test]
fn help_shows_every_setting_and_needs_no_valid_ones() {
    for line in ["--help", "-h", "-help", "TICK_MS=0 --help", "--tick-ms 0 help"] {
        let help = printed(line);
        for Setting { name, flag, default, meaning } in SETTINGS {
            let shown = help.lines().any(|line| {
                line.split_whitespace().take(2).eq([*flag, *name])
                    && line.contains(&format!("  {default} "))
                    && line.ends_with(meaning)
            });
            assert!(shown, "{name} is missing in {help}");
        }
    }
    assert_eq!(printed("-version"), format!("phalanx-server {}\n", env!("CARGO_PKG_VERSION")));
}
