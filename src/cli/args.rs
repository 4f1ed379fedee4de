//! The commands, with their options and arguments, as argh reads them and explains them.

use std::time::Duration;

use argh::FromArgs;

use crate::limits::REQUEST_TIMEOUT_MAX;

/// Where the cluster is if nothing says so.
pub const ADDR_DEFAULT: &str = "127.0.0.1:9000";

/// Reads and writes a Phalanx cluster, through any of its nodes.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    help_triggers("--help"),
    example = "{command_name} put hello world -addr 127.0.0.1:9000\n\
               {command_name} get hello --json\n\
               {command_name} put photo - < photo.jpg\n\
               {command_name} put balance -- -5",
    note = "Options go before or after the arguments, with one dash or two, as `--addr X` or\n\
            `--addr=X`. `--` ends the options. `{command_name} get --help` tells about one command.\n\n\
            --addr takes one host:port or several with commas between, --timeout a number with\n\
            ms, s or m. Where --addr is not given, the environment's PHALANX_ADDR is taken, else\n\
            127.0.0.1:9000.",
    error_code(0, "done"),
    error_code(1, "not found, a compare failed, a backup is damaged, or a node is not healthy"),
    error_code(2, "wrong usage, or a key, value or order that is refused"),
    error_code(3, "unavailable, or it is unknown whether a change was made")
)]
pub struct Args {
    /// nodes to talk to, as host:port[,host:port...]
    #[argh(option)]
    pub addr: Option<String>,
    /// how long it may take, as 500ms, 1s or 2m (5s)
    #[argh(option, default = "Duration::from_secs(5)", from_str_fn(duration))]
    pub timeout: Duration,
    /// print JSON: strings, or {\"hex\": ...} where they are not UTF-8
    #[argh(switch)]
    pub json: bool,
    /// print the version of this program
    #[argh(switch)]
    pub version: bool,
    /// what to do
    #[argh(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
#[allow(missing_docs)]
pub enum Command {
    Put(Put),
    Get(Get),
    Del(Del),
    Cas(Cas),
    List(List),
    Txn(Txn),
    Status(Status),
    Health(Health),
    Members(Members),
    Member(Member),
    Leader(Leader),
    Snapshot(Snapshot),
}

/// Write a key.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "put", help_triggers("--help"))]
pub struct Put {
    /// the key
    #[argh(positional)]
    pub key: String,
    /// the value; - reads it from standard input
    #[argh(positional)]
    pub value: String,
}

/// Print the value of a key: its bytes as they are, and a newline only on a terminal.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "get", help_triggers("--help"))]
pub struct Get {
    /// answer from what the node has, at once: may be old
    #[argh(switch)]
    pub stale: bool,
    /// the key
    #[argh(positional)]
    pub key: String,
}

/// Delete a key, or all keys with a prefix.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "del", help_triggers("--help"))]
pub struct Del {
    /// delete all keys that begin with KEY
    #[argh(switch)]
    pub prefix: bool,
    /// the key
    #[argh(positional)]
    pub key: String,
}

/// Write a key if it is as expected (compare-and-swap).
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "cas",
    help_triggers("--help"),
    example = "phalanx cas KEY EXPECTED NEW\n\
               phalanx cas KEY NEW --absent\n\
               phalanx cas KEY NEW --revision 7"
)]
pub struct Cas {
    /// expect that the key does not exist
    #[argh(switch)]
    pub absent: bool,
    /// expect that this revision was the last to write the key
    #[argh(option)]
    pub revision: Option<u64>,
    /// the key
    #[argh(positional)]
    pub key: String,
    /// the expected value, unless --absent or --revision says what to expect; then the new value,
    /// where - reads it from standard input
    #[argh(positional)]
    pub values: Vec<String>,
}

/// List keys and values in order: a line each, key, tab, value. What is not plain text is quoted as
/// in `txn`. With --json an object per line.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "list", help_triggers("--help"))]
pub struct List {
    /// the first key
    #[argh(option)]
    pub from: Option<String>,
    /// where to end: the first key that is not listed
    #[argh(option)]
    pub to: Option<String>,
    /// at most so many
    #[argh(option)]
    pub limit: Option<usize>,
    /// leave out the values
    #[argh(switch)]
    pub keys_only: bool,
    /// print only how many there are
    #[argh(switch)]
    pub count: bool,
    /// answer from what the node has, at once: may be old
    #[argh(switch)]
    pub stale: bool,
    /// only keys that begin with this
    #[argh(positional)]
    pub prefix: Option<String>,
}

/// Execute a transaction: all of it or nothing.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "txn",
    help_triggers("--help"),
    note = "One instruction per argument, or per line of standard input if there are none. If\n\
            all `if` hold, the `then` are executed in order; else the `else`, and the exit code is 1.\n\n\
            \u{20} if value KEY = VALUE      also != < >\n\
            \u{20} if version KEY > 0        also create, mod: the revisions; 0 means: no such key\n\
            \u{20} then put KEY VALUE\n\
            \u{20} then get KEY\n\
            \u{20} then del KEY\n\
            \u{20} then del-range FROM TO    up to TO, without it\n\
            \u{20} else get KEY\n\
            \u{20} # a comment\n\n\
            Keys and values with spaces go in double quotes, where \\\" \\\\ \\n \\r \\t and \\xNN\n\
            (a byte in hex) have their usual meaning.",
    example = "phalanx txn 'if value lock = alice' 'then put lock bob' 'else get lock'"
)]
pub struct Txn {
    /// as below, each quoted for the shell
    #[argh(positional)]
    pub instructions: Vec<String>,
}

/// Print the nodes of the cluster.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "status", help_triggers("--help"))]
pub struct Status {}

/// Ask one node whether it can serve, as a health check does: prints what it says, and exits with 0 if it can, else with 1.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "health",
    help_triggers("--help"),
    note = "It asks GET /health. A node that waits for its cluster says `forming`, and counts as healthy."
)]
pub struct Health {
    /// where the node answers HTTP, as host:port (DEBUG_ADDR of the environment, else 127.0.0.1:8080)
    #[argh(positional)]
    pub address: Option<String>,
}

/// Print the nodes of the mesh, members of the cluster or not.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "members",
    help_triggers("--help"),
    note = "ROLE is leader, voter or learner; none is a node that is no member of the cluster, foreign\n\
            one of another cluster. STATE is what the asked node knows by gossip: alive, suspect\n\
            (somebody got no answer), dead or left (it was stopped). RTT is the round trip from the asked\n\
            node, as estimated. LAG is how many entries of the log a member is behind the leader. - is\n\
            what is not known."
)]
pub struct Members {}

/// Change the members of the cluster.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "member", help_triggers("--help"))]
pub struct Member {
    /// what to do
    #[argh(subcommand)]
    pub command: MemberCommand,
}

/// The commands about a member.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
#[allow(missing_docs)]
pub enum MemberCommand {
    Remove(RemoveMember),
}

/// Take a member out of the cluster, for good.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "remove",
    help_triggers("--help"),
    note = "The node stops, and its data directory can join no more; with an empty one it may come back. A\n\
            leader hands over first. It is refused where the live voters would be left without a majority."
)]
pub struct RemoveMember {
    /// its name (NODE_ID)
    #[argh(positional)]
    pub name: String,
}

/// Decide who leads.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "leader", help_triggers("--help"))]
pub struct Leader {
    /// what to do
    #[argh(subcommand)]
    pub command: LeaderCommand,
}

/// The commands about the leader.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
#[allow(missing_docs)]
pub enum LeaderCommand {
    Transfer(TransferLeader),
}

/// Have the leader hand over to another voter.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "transfer", help_triggers("--help"))]
pub struct TransferLeader {
    /// the voter's name (NODE_ID)
    #[argh(positional)]
    pub name: String,
}

/// Back up all of the data, as of one revision.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "snapshot", help_triggers("--help"))]
pub struct Snapshot {
    /// what to do
    #[argh(subcommand)]
    pub command: SnapshotCommand,
}

/// The commands of `snapshot`.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
#[allow(missing_docs)]
pub enum SnapshotCommand {
    Save(SaveSnapshot),
    Check(CheckSnapshot),
}

/// Save a backup to a file, which `phalanx-server --restore` makes a new cluster of.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "save", help_triggers("--help"))]
pub struct SaveSnapshot {
    /// replace the file if it exists
    #[argh(switch)]
    pub force: bool,
    /// the file
    #[argh(positional)]
    pub file: String,
}

/// Read a backup to its end, and tell whether it is whole and what is in it. Needs no cluster.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "check", help_triggers("--help"))]
pub struct CheckSnapshot {
    /// the file
    #[argh(positional)]
    pub file: String,
}

/// Reads `500ms`, `1s`, `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("give a whole number and a unit, as in 500ms, 1s or 2m".to_owned()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    let longest = REQUEST_TIMEOUT_MAX * 60;
    match ms.map(Duration::from_millis) {
        Some(duration) if !duration.is_zero() && duration <= longest => Ok(duration),
        _ => Err(format!("it must be at least 1ms and at most {}s", longest.as_secs())),
    }
}
