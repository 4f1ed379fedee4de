//! What can be tuned. The defaults are for a mesh around the planet.

use std::time::Duration;

/// See the fields.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One member is probed in each.
    pub probe_period: Duration,
    /// The least time to wait for an answer, however near the peer.
    pub probe_timeout_min: Duration,
    /// How long to wait for a peer whose round trip was never measured.
    pub probe_timeout_initial: Duration,
    /// Nodes that are asked to probe a member that does not answer.
    pub indirect_probes: usize,
    /// While there are news, they are told this often, beside what probes carry.
    pub spread_period: Duration,
    /// To so many at once.
    pub spread_fanout: usize,
    /// Each piece of news is sent this many times ceil(log10(n + 1)) times.
    pub retransmit_mult: u32,
    /// A suspected node is dead at the earliest after this many times max(1, log10(n)) probe periods.
    pub suspicion_mult: u32,
    /// Without confirmations by others, after this many times longer.
    pub suspicion_max_mult: u32,
    /// Tables are exchanged with a random member this often, in large meshes less.
    pub sync_period: Duration,
    /// The dead are told news for so long, that they may hear of their death.
    pub tell_the_dead: Duration,
    /// The dead are tried again after this pause, which doubles...
    pub retry_pause_min: Duration,
    /// ... up to this.
    pub retry_pause_max: Duration,
    /// Then the dead, and those who left, are forgotten.
    pub dead_keep: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            probe_period: Duration::from_secs(1),
            probe_timeout_min: Duration::from_millis(100),
            probe_timeout_initial: Duration::from_secs(1),
            indirect_probes: 3,
            spread_period: Duration::from_millis(200),
            spread_fanout: 3,
            retransmit_mult: 4,
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            sync_period: Duration::from_secs(30),
            tell_the_dead: Duration::from_secs(30),
            retry_pause_min: Duration::from_secs(1),
            retry_pause_max: Duration::from_secs(4),
            dead_keep: Duration::from_secs(3600),
        }
    }
}
