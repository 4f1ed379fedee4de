//! What must hold of every run, each thing in a place of its own.
//!
//! - [`elections`]: one leader per term, one vote per identity and term.
//! - [`logs`]: logs match; what is committed is the same everywhere, and in the log of every later leader.
//! - [`states`]: the same index, the same state.
//! - [`witness`]: what one disk holds, and that nothing is said, or found at a start, that it does not.
//! - [`accounts`]: what the clients were told is so: every acknowledged write is there, once. The history of what they
//!   saw is judged by [`linearizability`](super::linearizability).
//! - [`backup`]: what a backup holds is what was written up to its revision.
//! - [`calm`]: once all trouble has ended, everybody is back and agrees, gossip too.
//!
//! A checker is told what happened and says `Err`, with what is wrong, in words. It changes nothing and decides nothing.

pub mod accounts;
pub mod backup;
pub mod calm;
pub mod configurations;
pub mod elections;
pub mod logs;
pub mod states;
pub mod witness;

use std::fmt;
use std::time::Duration;

use self::configurations::Configurations;
use self::elections::Elections;
use self::logs::Logs;
use self::states::States;

/// What a checker says: nothing, or what is wrong.
pub type Finding = Result<(), String>;

/// Who found something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checker {
    /// There is one cluster, ever.
    OneCluster,
    /// A term has one leader at most.
    ElectionSafety,
    /// An identity votes once in a term.
    OneVote,
    /// Entries of the same index and term are the same, and so are those before them.
    LogMatching,
    /// A leader commits by counting only what is of its own term.
    OwnTerm,
    /// What is committed at an index is the same everywhere, for ever.
    Agreement,
    /// What is committed is in the log of every leader after.
    LeaderCompleteness,
    /// What is said is on the disk of whoever says it.
    SaidIsDurable,
    /// Recovery finds what was durable, or refuses what is damaged.
    Recovery,
    /// An acknowledged write is on the disks of a majority.
    AcknowledgedIsDurable,
    /// The same index, the same state.
    EqualStates,
    /// A change of the membership takes effect where the disk knows that it is committed.
    DurableMembership,
    /// No leader takes its own vote.
    LeaderVotes,
    /// Every request is answered, once, and in time.
    Answers,
    /// What a node forwards, a client asked of it.
    OneHop,
    /// What grows stays within MAX_BYTES.
    Quota,
    /// A backup is whole, what was written up to its revision, and no older than what was acknowledged before.
    Backup,
    /// Whose state differs from a majority's notices, and answers refusals alone; nobody else does.
    Quarantine,
    /// Reads by register: what was acknowledged before is seen, and a stale read is no older than it says.
    Freshness,
    /// Acknowledged writes are there, refused ones are not, none is there twice.
    ExactlyOnce,
    /// The history is that of one store that is asked by one client at a time.
    Linearizability,
    /// After the trouble all are back, in bounded time.
    Liveness,
    /// After the trouble gossip shows everybody alive.
    Convergence,
    /// A node stopped by itself, for an error.
    Stopped,
    /// An assertion of the program's own.
    Assertion,
}

/// What was found wrong, by whom and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// By whom.
    pub checker: Checker,
    /// In the time of the world.
    pub at: Duration,
    /// In words.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.6} s: {}", self.checker, self.at.as_secs_f64(), self.what)
    }
}

/// The checkers that look on all the time.
#[derive(Debug, Default)]
pub struct Watch {
    /// Who led and who voted.
    pub elections: Elections,
    /// What the logs hold, and what is committed.
    pub logs: Logs,
    /// The states by index.
    pub states: States,
    /// Who voted when.
    pub configurations: Configurations,
    /// The cluster that was founded.
    cluster_id: Vec<u8>,
}

impl Watch {
    /// A machine belongs to a cluster; empty for none.
    pub fn belongs(&mut self, cluster_id: &[u8]) -> Finding {
        if self.cluster_id.is_empty() {
            self.cluster_id = cluster_id.to_vec();
        }
        match cluster_id.is_empty() || self.cluster_id == cluster_id {
            true => Ok(()),
            false => Err("a second cluster was founded".to_owned()),
        }
    }
}
