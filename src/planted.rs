//! Bugs to be planted in the program, one at a time, so that a test can see the [simulator](crate::sim) find each.
//!
//! Code asks [`planted`] at the spot where a bug would be. The answer is a constant `false`, and the bug is not compiled,
//! but in the library's own tests and with the feature `plant`, which no build that serves anybody has.

/// A mistake that somebody could make, and somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A follower acknowledges entries before its write of them has returned.
    AcknowledgeBeforeSync,
    /// The leader counts its own log before its write has returned.
    CountOwnLogBeforeSync,
    /// A start forgets for whom its node voted.
    ForgetVote,
    /// Messages of a term leave before the vote for it is on disk.
    SendBeforeVote,
    /// The leader takes what learners have for what voters have.
    CountLearners,
    /// A leader commits entries of terms before its own by counting those who have them.
    CommitEarlierTerm,
    /// A linearizable read is served without a round of ReadIndex.
    ReadWithoutRound,
    /// A round of ReadIndex that is asked anew has the context of the first time.
    ReuseReadContext,
    /// The age of a stale read counts from the end of the last round, not from its beginning.
    YoungerThanItIs,
    /// The outcomes of requests are not committed with what they did.
    ForgetRemembered,
    /// A request that was applied is applied again.
    ApplyRetry,
    /// A request that may have been forgotten is applied.
    IgnoreSince,
    /// What applying computes hangs on how far the map is.
    ApplyConsultsDisk,
    /// The answer to the oldest write goes out when any is applied.
    AnswerByArrival,
    /// Recovery does not sync what it read.
    RecoverWithoutSync,
    /// A sector's checksum is not looked at.
    SkipChecksum,
    /// What is left of a torn write is read as if it were whole.
    AcceptTorn,
    /// A node that lost its disk goes on under its identity.
    KeepIdentity,
    /// A node promises to a second candidate what it promised to the first.
    PromiseTwice,
    /// A request is not answered at its deadline.
    ForgetDeadline,
    /// A segment of the log is let go before the map has durably passed it.
    ReleaseTooEarly,
    /// A node that is called dead does not contradict.
    NeverRefute,
    /// A write that was forwarded to a node which does not lead is forwarded once more.
    ForwardTwice,
    /// A leader takes its own vote, and does not hand over first.
    DemoteLeader,
    /// A snapshot is taken over without the requests that it remembers.
    ForgetInSnapshot,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 25] = [
        Bug::AcknowledgeBeforeSync,
        Bug::CountOwnLogBeforeSync,
        Bug::ForgetVote,
        Bug::SendBeforeVote,
        Bug::CountLearners,
        Bug::CommitEarlierTerm,
        Bug::ReadWithoutRound,
        Bug::ReuseReadContext,
        Bug::YoungerThanItIs,
        Bug::ForgetRemembered,
        Bug::ApplyRetry,
        Bug::IgnoreSince,
        Bug::ApplyConsultsDisk,
        Bug::AnswerByArrival,
        Bug::RecoverWithoutSync,
        Bug::SkipChecksum,
        Bug::AcceptTorn,
        Bug::KeepIdentity,
        Bug::PromiseTwice,
        Bug::ForgetDeadline,
        Bug::ReleaseTooEarly,
        Bug::NeverRefute,
        Bug::ForwardTwice,
        Bug::DemoteLeader,
        Bug::ForgetInSnapshot,
    ];
}

#[cfg(any(test, feature = "plant"))]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this thread runs with that bug.
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// From now on this thread runs with that bug, or without any.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }
}

#[cfg(any(test, feature = "plant"))]
pub use switch::{plant, planted};

/// Whether this thread runs with that bug: never.
#[cfg(not(any(test, feature = "plant")))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}
