//! From texts to settings: first each by itself, then how they agree.

use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::flags::Flags;
use super::{Bootstrap, Cpu, Gossip, HostPort, Peer, Settings, gossip, log_filter, peers};
use crate::error::Error;
use crate::limits::{
    DEAD_AFTER_MAX, DEAD_AFTER_MIN, MAP_LEN, MAX_BYTES_DEFAULT, MEMBERS_MAX, TICK_MS_MAX,
    TICKS_MAX, VOTERS_MAX,
};

const NO_EXPECT: &str = "SEEDS is set, and neither PEERS nor EXPECT: set EXPECT to the size of the first \
    cluster, in nodes, or BOOTSTRAP to `never` where the cluster is formed already";

pub(super) fn settings(
    flags: Flags,
    env: &dyn Fn(&str) -> Option<OsString>,
    hostname: &str,
) -> Result<Settings, Error> {
    let mut reader = Reader { env, errors: Vec::new() };
    // Where something is refused its default stands in, and gets no further than this function.
    let mut settings = each(&mut reader, flags, hostname);
    if reader.errors.is_empty() {
        reader.errors = contradictions(&settings);
    }
    if !reader.errors.is_empty() {
        return Err(Error::Config(reader.errors.join("\n")));
    }
    settings.warnings = warnings(&settings);
    Ok(settings)
}

fn each(reader: &mut Reader<'_>, mut flags: Flags, hostname: &str) -> Settings {
    let node_id = match reader.text("NODE_ID", flags.node_id.take()) {
        Some(text) => reader.check("NODE_ID", &text, peers::name),
        None => reader.check("NODE_ID is not set, and the hostname", hostname, peers::name),
    }
    .unwrap_or_default();

    let mut peers = reader.read("PEERS", flags.peers.take(), peers::list).unwrap_or_default();
    let own = peers.iter().position(|peer| peer.name == node_id);
    let own_address = own.and_then(|own| peers.remove(own).address);
    let nodes = 1 + peers.len();

    let listen_addr = listen_addr(reader, &mut flags);
    let seeds = reader.read("SEEDS", flags.seeds.take(), gossip::seeds);
    let has_seeds_only = seeds.is_some() && peers.is_empty();
    let gossip = gossip(reader, &mut flags, &listen_addr, seeds, &peers, own_address);
    let bootstrap = reader.read("BOOTSTRAP", flags.bootstrap, bootstrap).unwrap_or(Bootstrap::Auto);
    let expect = reader.text("EXPECT", flags.expect);
    if expect.is_none() && has_seeds_only && bootstrap == Bootstrap::Auto {
        // By default this node would be a cluster by itself, which is not what seeds are for.
        reader.errors.push(NO_EXPECT.into());
    }
    let expect = expect.and_then(|text| reader.check("EXPECT", &text, number(1..=MEMBERS_MAX)));
    let log = match reader.text("LOG", flags.log) {
        Some(text) => reader.check("LOG", &text, log_filter::checked),
        None => reader.read("RUST_LOG", None, log_filter::checked),
    };

    Settings {
        node_id,
        peers,
        gossip,
        target_voters: reader
            .read("TARGET_VOTERS", flags.target_voters, target_voters)
            .unwrap_or(VOTERS_MAX),
        dead_after: reader
            .read("DEAD_AFTER", flags.dead_after, dead_after)
            .unwrap_or(Duration::from_secs(300)),
        max_bytes: reader
            .read("MAX_BYTES", flags.max_bytes, max_bytes)
            .unwrap_or(MAX_BYTES_DEFAULT),
        expect: expect.unwrap_or(nodes),
        bootstrap,
        data_dir: reader
            .read("DATA_DIR", flags.data_dir, directory)
            .unwrap_or_else(|| PathBuf::from("/data")),
        listen_addr,
        debug_addr: reader
            .read("DEBUG_ADDR", flags.debug_addr, debug_addr)
            .unwrap_or_else(|| Some(HostPort::any(8080))),
        tick_ms: reader.read("TICK_MS", flags.tick_ms, number(1..=TICK_MS_MAX)).unwrap_or(200),
        election: reader.read("ELECTION", flags.election, number(1..=TICKS_MAX)).unwrap_or(20),
        heartbeat: reader.read("HEARTBEAT", flags.heartbeat, number(1..=TICKS_MAX)).unwrap_or(5),
        cpu: reader.read("CPU", flags.cpu, cpu).unwrap_or(Cpu::Auto),
        log: log.unwrap_or_else(|| "info".into()),
        restore: flags.restore.map(PathBuf::from),
        warnings: Vec::new(),
    }
}

fn listen_addr(reader: &mut Reader<'_>, flags: &mut Flags) -> HostPort {
    reader
        .either(
            ("--listen-addr", flags.listen_addr.take()),
            ("--grpc-addr", flags.grpc_addr.take()),
        )
        .or_else(|| {
            let [name, older] = ["LISTEN_ADDR", "GRPC_ADDR"].map(|name| reader.variable(name));
            reader.either(("LISTEN_ADDR", name), ("GRPC_ADDR", older))
        })
        .and_then(|text| reader.check("LISTEN_ADDR (or GRPC_ADDR)", &text, HostPort::from_str))
        .unwrap_or_else(|| HostPort::any(9000))
}

/// What is read of gossip, and what follows where it is not given.
fn gossip(
    reader: &mut Reader<'_>,
    flags: &mut Flags,
    listen_addr: &HostPort,
    seeds: Option<Vec<HostPort>>,
    peers: &[Peer],
    own_address: Option<HostPort>,
) -> Gossip {
    let bind_addr = reader.read("BIND_ADDR", flags.bind_addr.take(), gossip::bind_addr);
    let bind_port = reader.read("BIND_PORT", flags.bind_port.take(), number(0..=u16::MAX));
    let bind = gossip::bind(bind_addr, bind_port, listen_addr);
    let advertise_addr = reader
        .read("ADVERTISE_ADDR", flags.advertise_addr.take(), gossip::advertise_addr)
        .or(own_address)
        .or_else(|| reader.read("FLY_PRIVATE_IP", None, gossip::private_ip));
    let region = reader
        .read("REGION", flags.region.take(), gossip::region)
        .or_else(|| reader.read("FLY_REGION", None, gossip::region));
    Gossip {
        seeds: seeds.unwrap_or_else(|| gossip::guessed_seeds(&bind, listen_addr, peers)),
        bind,
        advertise_addr,
        region: region.unwrap_or_default(),
    }
}

/// What each setting allows and all together do not.
fn contradictions(settings: &Settings) -> Vec<String> {
    let mut errors = Vec::new();
    let Settings { election, heartbeat, expect, .. } = settings;
    if election <= heartbeat {
        errors.push(format!(
            "ELECTION is `{election}` and HEARTBEAT is `{heartbeat}`: ELECTION must be the larger, \
             and is best at least 4 times as large"
        ));
    }
    let nodes = 1 + settings.peers.len();
    if nodes > MEMBERS_MAX {
        errors.push(format!(
            "PEERS and this node are {nodes} nodes: a cluster has at most {MEMBERS_MAX}"
        ));
    }
    let majority = expect / 2 + 1;
    if 2 * majority <= nodes {
        errors.push(format!(
            "EXPECT is `{expect}`, but PEERS and this node are {nodes} nodes: two groups of them \
             could each form a cluster. Leave it unset, which means {nodes}"
        ));
    }
    if settings.listen_addr.port() != 0
        && settings.debug_addr.as_ref() == Some(&settings.listen_addr)
    {
        errors.push(format!(
            "LISTEN_ADDR and DEBUG_ADDR are both `{}`: give each its own port",
            settings.listen_addr
        ));
    }
    errors
}

fn warnings(settings: &Settings) -> Vec<String> {
    let Settings { election, heartbeat, max_bytes, .. } = settings;
    let mut warnings = Vec::new();
    let advised = 4 * heartbeat;
    if *election < advised {
        warnings.push(format!(
            "ELECTION is {election} and HEARTBEAT {heartbeat}: a few late heartbeats will start an \
             election; an ELECTION of at least {advised} is advised"
        ));
    }
    let roomy = MAP_LEN as u64 / 2;
    if *max_bytes == 0 || *max_bytes > roomy {
        warnings.push(format!(
            "MAX_BYTES is {max_bytes}{}: a node stops when its store's file has {} GiB, and the file \
             is larger than what it holds; at most {} GiB are advised",
            if *max_bytes == 0 { ", no limit" } else { "" },
            MAP_LEN >> 30,
            roomy >> 30
        ));
    }
    warnings
}

/// Finds what is given of each setting, and collects what is refused.
struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    errors: Vec<String>,
}

impl Reader<'_> {
    /// A setting's value, `None` if it is not given or refused.
    fn read<T>(
        &mut self,
        name: &str,
        flag: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name, flag)?;
        self.check(name, &text, parse)
    }

    /// What is given of a setting: the flag wins.
    fn text(&mut self, name: &str, flag: Option<String>) -> Option<String> {
        flag.or_else(|| self.variable(name))
    }

    fn variable(&mut self, name: &str) -> Option<String> {
        let value = (self.env)(name).filter(|value| !value.is_empty())?;
        match value.into_string() {
            Ok(text) => Some(text),
            Err(bytes) => {
                self.refuse(name, &bytes.to_string_lossy(), "it must be valid UTF-8");
                None
            }
        }
    }

    fn check<T>(
        &mut self,
        name: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text).map_err(|why| self.refuse(name, text, &why)).ok()
    }

    /// What is given under one of two names of a setting. Under both, it must be the same.
    fn either(
        &mut self,
        (name, value): (&str, Option<String>),
        (older, older_value): (&str, Option<String>),
    ) -> Option<String> {
        if let (Some(value), Some(other)) = (&value, &older_value)
            && value != other
        {
            let why = format!("{older}, its older name, is `{other}`: drop one of them");
            self.refuse(name, value, &why);
        }
        value.or(older_value)
    }

    fn refuse(&mut self, name: &str, value: &str, why: &str) {
        self.errors.push(format!("{name} is `{value}`: {why}"));
    }
}

fn number<T>(range: RangeInclusive<T>) -> impl FnOnce(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("it must be a number of {} to {}", range.start(), range.end())),
    }
}

fn bootstrap(text: &str) -> Result<Bootstrap, String> {
    match text {
        "auto" => Ok(Bootstrap::Auto),
        "never" => Ok(Bootstrap::Never),
        _ => Err("it must be `auto` or `never`".into()),
    }
}

fn target_voters(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(voters) if voters <= VOTERS_MAX && voters % 2 == 1 => Ok(voters),
        _ => Err("it must be 1, 3 or 5".into()),
    }
}

fn dead_after(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("it must be a whole number and a unit, as in 300s or 5m".into()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    match ms.map(Duration::from_millis) {
        Some(time) if (DEAD_AFTER_MIN..=DEAD_AFTER_MAX).contains(&time) => Ok(time),
        _ => Err(format!(
            "it must be of {}s to {}h",
            DEAD_AFTER_MIN.as_secs(),
            DEAD_AFTER_MAX.as_secs() / 3600
        )),
    }
}

fn max_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: Option<u64> = match unit {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes =
        number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    bytes.ok_or_else(|| {
        "it must be a whole number of bytes, or of KiB, MiB or GiB as in 512MiB".into()
    })
}

fn cpu(text: &str) -> Result<Cpu, String> {
    match text {
        "auto" => Ok(Cpu::Auto),
        "none" => Ok(Cpu::Unpinned),
        _ => text
            .parse()
            .map(Cpu::Core)
            .map_err(|_| "it must be `auto`, `none`, or the number of a core".into()),
    }
}

fn debug_addr(text: &str) -> Result<Option<HostPort>, String> {
    if text == "none" { Ok(None) } else { text.parse().map(Some) }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it must name a directory".into()) } else { Ok(PathBuf::from(text)) }
}
