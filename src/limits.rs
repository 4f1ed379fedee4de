//! Every bound of the system, in one place, with the relations between them checked when it is compiled.
//!
//! Past a limit there is a clear refusal or back-pressure, never growth. Limits that the state machine consults when it
//! applies a command must be the same on every replica: they are constants and not settings, and to change one is to
//! change the replicated format (see [`APPLY_VERSION`]).

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- What a client may send. Checked at the door (`wire::validate`), before anything is proposed. ----

/// The longest key. LMDB's pages of 4 KiB hold keys of up to about 1,980 bytes.
pub const KEY_LEN_MAX: usize = KIB;
/// The longest value.
pub const VALUE_LEN_MAX: usize = MIB;
/// Compares and operations of one transaction, both branches, counted together.
pub const TXN_OPS_MAX: usize = 128;
/// The encoded length of one write.
pub const WRITE_LEN_MAX: usize = 2 * MIB;
/// The encoded length of one transaction's result.
pub const RESULT_LEN_MAX: usize = 2 * MIB;
/// How many keys one transaction deletes by ranges; the result tells where to go on.
pub const DELETE_RANGE_KEYS_MAX: usize = 1024;
/// The same in bytes, keys and values: whatever is deleted is read, for the digest of the state.
pub const DELETE_RANGE_LEN_MAX: u64 = 16 * MIB as u64;
/// Entries in one reply to a range read.
pub const RANGE_ENTRIES_MAX: usize = 1000;
/// Payload (keys and values) after which a reply to a range read ends.
pub const RANGE_BYTES_MAX: usize = MIB;
/// What `timeout_ms` may be at most, and what 0 means.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// See [`REQUEST_TIMEOUT_MAX`].
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

// ---- Frames and connections. ----

/// The longest body of a frame.
pub const FRAME_LEN_MAX: usize = 4 * MIB + 64 * KIB;
/// The first frame must have come by then.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Client connections at once; a further one is closed with `overloaded`.
pub const CLIENTS_MAX: usize = 10_000;
/// Requests in flight on one connection; past that it is not read.
pub const REQUESTS_PER_CLIENT_MAX: usize = 1024;
/// Requests in flight on one node, all clients and forwards together; past that `overloaded`.
pub const REQUESTS_MAX: usize = 16 * KIB;
/// Bytes of the writes among them; past that `overloaded`.
pub const REQUESTS_LEN_MAX: usize = 64 * MIB;
/// Unsent bytes to one client past which it is not read; a client that does not take them for
/// [`CLIENT_STALL_MAX`] is disconnected.
pub const CLIENT_UNSENT_MAX: usize = 4 * MIB;
/// See [`CLIENT_UNSENT_MAX`].
pub const CLIENT_STALL_MAX: Duration = Duration::from_secs(30);
/// Unsent bytes to one client past which it gets `overloaded` for an answer: what it had asked for before it was read
/// no more can be many times [`CLIENT_UNSENT_MAX`].
pub const CLIENT_REPLIES_LEN_MAX: usize = 16 * MIB;
/// Descriptors without which a node does not start.
pub const DESCRIPTORS_MIN: u64 = 64;
/// Descriptors that no connection of others gets, or a quarter of those that there are: the log and the store need some, and so do
/// the node's own connections.
pub const DESCRIPTORS_RESERVED: u64 = 32 + 2 * PEERS_MAX as u64;
/// Descriptors that clients and peers do not get, or half of those that there are: HTTP is answered, too, when there are no others.
pub const DESCRIPTORS_NOT_FOR_CLIENTS: u64 = DESCRIPTORS_RESERVED + HTTP_CONNECTIONS_MAX as u64;
/// Bytes of answers that one turn of a node gives; those beyond are `overloaded`.
pub const TURN_REPLIES_LEN_MAX: usize = 64 * MIB;
/// Unsent bytes to one peer past which messages to it are dropped (and raft told that it is unreachable).
pub const PEER_UNSENT_MAX: usize = 32 * MIB;
/// Nodes of one cluster, as far as a node keeps connections to them.
pub const PEERS_MAX: usize = 64;
/// Addresses that a node keeps connections to: of each peer up to three, as the log, PEERS and gossip tell them.
pub const LINK_TARGETS_MAX: usize = 3 * PEERS_MAX;
/// Names that are looked up at a time, each by a thread: as many as two for every link and seed, those that nobody waits for any
/// longer included.
pub const LOOKUPS_MAX: usize = 2 * (LINK_TARGETS_MAX + GOSSIP_SEEDS_MAX);
/// Connections beyond [`CLIENTS_MAX`], for peers.
pub const PEER_INBOUND_MAX: usize = 2 * PEERS_MAX;
/// Identities that a node remembers having been greeted by.
pub const GREETED_MAX: usize = 16 * PEERS_MAX;

// ---- HTTP on the debug address. ----

/// Connections at once.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// Request line and headers together; past that 431.
pub const HTTP_HEAD_LEN_MAX: usize = 8 * KIB;
/// Header lines; past that 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// A request must be complete by then (408), and an idle connection is closed.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// What `phalanx health` reads of an answer.
pub const HEALTH_LEN_MAX: usize = 64 * KIB;

// ---- Raft. ----

/// Orders of operators under way on one node; past that `overloaded`.
pub const ORDERS_MAX: usize = 64;
/// Bytes of entries in one append message, unless a single entry is longer.
pub const APPEND_LEN_MAX: usize = MIB;
/// Append messages on their way to one follower.
pub const APPENDS_IN_FLIGHT_MAX: usize = 256;
/// Bytes of entries not yet committed, those of leaders before among them; past that `overloaded`.
pub const UNCOMMITTED_LEN_MAX: usize = 32 * MIB;
/// Bytes of committed entries handed to the state machine in one turn.
pub const COMMITTED_LEN_PER_READY_MAX: usize = 4 * MIB;
/// Rounds of ReadIndex in flight; further reads join the next.
pub const READ_ROUNDS_MAX: usize = 64;
/// Members of a cluster, learners included.
pub const MEMBERS_MAX: usize = PEERS_MAX;
/// Removed raft ids that the members remember, so that they join no more; past that the oldest is forgotten. Replicated
/// state: see above.
pub const REMOVED_MAX: usize = 256;
/// Voters of a cluster (TARGET_VOTERS).
pub const VOTERS_MAX: usize = 5;
/// How far behind the commit index a learner may be when it is promoted, in entries.
pub const PROMOTION_LAG_MAX: u64 = 1000;
/// Length of a node's name.
pub const NAME_LEN_MAX: usize = 128;
/// DEAD_AFTER.
pub const DEAD_AFTER_MIN: Duration = Duration::from_secs(1);
/// See [`DEAD_AFTER_MIN`]: a week.
pub const DEAD_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// TICK_MS.
pub const TICK_MS_MAX: u64 = 10_000;
/// ELECTION and HEARTBEAT, in ticks.
pub const TICKS_MAX: usize = 1_000;

// ---- Gossip. ----

/// The UDP port, where none is set.
pub const GOSSIP_PORT_DEFAULT: u16 = 7946;
/// How many ports, from that one on, the nodes of one machine share.
pub const GOSSIP_LOOPBACK_PORTS: u16 = 16;
/// Datagrams that are taken in before others have their turn.
pub const GOSSIP_BURST_MAX: usize = 64;
/// A datagram: what every path of IPv6 carries unfragmented, less headers and a tunnel's share.
pub const GOSSIP_PACKET_LEN_MAX: usize = 1200;
/// A whole table, as two nodes exchange it over TCP.
pub const GOSSIP_SYNC_LEN_MAX: usize = MIB;
/// Between two packets that tell a node of another cluster that it is one.
pub const GOSSIP_STRANGER_TOLD_EVERY: Duration = Duration::from_secs(1);
/// Other nodes that are known, the dead included; the longest dead make room, past that new ones are refused.
pub const GOSSIP_MEMBERS_MAX: usize = 512;
/// Pings whose answer is waited for, those on behalf of others included.
pub const GOSSIP_PINGS_MAX: usize = 512;
/// Seeds that are pinged at once.
pub const GOSSIP_SEEDS_MAX: usize = 64;
/// host:port of a node: a DNS name of 253 bytes, and the port.
pub const ADDRESS_LEN_MAX: usize = 259;
/// ip:port of a node, with an IPv6 scope.
pub const IP_ADDRESS_LEN_MAX: usize = 64;
/// A node's region.
pub const REGION_LEN_MAX: usize = 64;
/// A node's version.
pub const VERSION_LEN_MAX: usize = 64;
/// The description of a node, all fields at their longest, with room for the numbers.
pub const GOSSIP_NODE_LEN_MAX: usize =
    NAME_LEN_MAX + ADDRESS_LEN_MAX + IP_ADDRESS_LEN_MAX + REGION_LEN_MAX + VERSION_LEN_MAX + 100;

// ---- The log. ----

/// Length of a segment of the log. A batch lies within one segment.
pub const SEGMENT_LEN: usize = 16 * MIB;
/// Payload of one batch of the log.
pub const BATCH_PAYLOAD_MAX: usize = 6 * MIB;
/// What must stay free on the disk for writes to be accepted.
pub const DISK_RESERVE: u64 = 64 * MIB as u64;

/// Entries kept in memory for followers that are a little behind, once the map has durably passed them; who is further
/// behind gets a snapshot.
pub const RETAINED_ENTRIES_MAX: usize = 16 * KIB;
/// Bytes of them.
pub const RETAINED_LEN_MAX: usize = 16 * MIB;
/// The same while a snapshot is on its way to a follower, which needs what comes after it. Past that it begins anew.
pub const RETAINED_STREAMING_ENTRIES_MAX: usize = 256 * KIB;
/// See [`RETAINED_STREAMING_ENTRIES_MAX`].
pub const RETAINED_STREAMING_LEN_MAX: usize = 64 * MIB;
/// Entries in memory past which a follower takes no more, until its state machine has got on.
pub const LOG_ENTRIES_MAX: usize = 2 * MIB;
/// Bytes of them.
pub const LOG_LEN_MAX: usize = 192 * MIB;

/// Entries that are freed at once, on the reactor,
pub const FREED_ENTRIES_MAX: usize = 2 * KIB;
/// and their bytes, but for the last of them.
pub const FREED_LEN_MAX: usize = 4 * MIB;

// ---- Snapshots. ----

/// Rows of one chunk, unless a single row is longer.
pub const SNAPSHOT_CHUNK_LEN: usize = 256 * KIB;
/// Chunks that are asked for ahead, at most,
pub const SNAPSHOT_WINDOW: u64 = 16;
/// and at first.
pub const SNAPSHOT_WINDOW_FIRST: u64 = 2;
/// How much longer than the fastest a chunk may take before fewer are asked for: about what heartbeats then wait behind them.
pub const SNAPSHOT_QUEUING_MAX: Duration = Duration::from_millis(100);
/// Chunks of which the sender knows where they begin. What a receiver may still ask for is among them: what it lacks, no
/// more than a window before the last that was read.
pub const SNAPSHOT_STARTS_MAX: usize = 2 * SNAPSHOT_WINDOW as usize;
/// Bytes of rows that the receiver of a snapshot commits at once,
pub const SNAPSHOT_BATCH_LEN: usize = 4 * MIB;
/// and how many.
pub const SNAPSHOT_BATCH_ROWS: usize = 4 * KIB;
/// Bytes of a store's meta data: the membership is most of it.
pub const SNAPSHOT_META_LEN_MAX: usize = MIB;
/// Snapshots that a node keeps open for others, nodes and clients together.
pub const SNAPSHOTS_MAX: usize = 4;
/// One of which nothing is asked for so long is given up.
pub const SNAPSHOT_IDLE_MAX: Duration = Duration::from_secs(30);
/// A member that refused one is offered no other until so long after.
pub const SNAPSHOT_REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// And any is after that: what it shows cannot be reused on disk while it is open.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(3600);

// ---- The state machine. The first three are replicated state: see the module's doc. ----

/// Raised with every change to what applying a command does.
pub const APPLY_VERSION: u32 = 2;
/// How many applied writes are remembered, so that a retry gets its first result.
pub const REMEMBERED_MAX: usize = 128 * KIB;
/// Bytes of remembered results.
pub const REMEMBERED_LEN_MAX: usize = 16 * MIB;
/// MAX_BYTES, where it is not set.
pub const MAX_BYTES_DEFAULT: u64 = 4 * 1024 * MIB as u64;
/// Nodes tell each other the digest of their state at each index that is a multiple of this.
pub const DIGEST_EVERY: u64 = 1024;
/// And when nothing was applied for so long.
pub const DIGEST_STILL: Duration = Duration::from_secs(5);
/// Digests that a node remembers, of itself and of each member.
pub const DIGESTS_MAX: usize = 16;
/// How far ahead of a node's own state those of others may be that it remembers, in entries: who is further behind gets a
/// snapshot.
pub const DIGEST_AHEAD_MAX: u64 = RETAINED_STREAMING_ENTRIES_MAX as u64;
/// Changes in memory, ahead of LMDB, after which a commit is begun.
pub const BUFFER_COMMIT_LEN: usize = 4 * MIB;
/// Age of the oldest such change after which a commit is begun.
pub const BUFFER_COMMIT_AGE: Duration = Duration::from_millis(1000);
/// Changes in memory past which proposals are refused as `overloaded`.
pub const BUFFER_LEN_MAX: usize = 64 * MIB;
/// Sealed layers of the buffer; a range read that would seal one more waits for a commit.
pub const LAYERS_MAX: usize = 8;
/// Range reads waiting for or running on the store threads.
pub const SCANS_MAX: usize = 1024;
/// Address space reserved for LMDB's map, once. The file grows only as it is used.
pub const MAP_LEN: usize = 64 * 1024 * MIB;
/// Read transactions of LMDB at once: one for each range read, and a few beside them.
pub const MAP_READERS_MAX: u32 = 2048;

// ---- The client library. ----

/// The first pause before a request is sent again; it doubles with each attempt.
pub const CLIENT_BACKOFF_MIN: Duration = Duration::from_millis(5);
/// The longest pause before a request is sent again.
pub const CLIENT_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// The least time that a node gets to answer before the client turns to another one.
pub const CLIENT_ATTEMPT_MIN: Duration = Duration::from_secs(1);
/// The longest such time.
pub const CLIENT_ATTEMPT_MAX: Duration = Duration::from_secs(5);

// ---- The simulator. ----

/// Steps in which the search for a linearization must have come to an end; past that the verdict is unknown.
pub const JUDGE_STEPS_MAX: u64 = 2_000_000;

const _: () = {
    assert!(KEY_LEN_MAX + VALUE_LEN_MAX < WRITE_LEN_MAX);
    assert!(
        RANGE_BYTES_MAX + VALUE_LEN_MAX + RANGE_ENTRIES_MAX * (KEY_LEN_MAX + 64) < FRAME_LEN_MAX
    );
    assert!(RESULT_LEN_MAX + KIB < FRAME_LEN_MAX);
    assert!(WRITE_LEN_MAX < REQUESTS_LEN_MAX);
    assert!(CLIENT_UNSENT_MAX + FRAME_LEN_MAX < CLIENT_REPLIES_LEN_MAX);
    assert!(CLIENT_REPLIES_LEN_MAX < TURN_REPLIES_LEN_MAX);
    // A frame holds an append message: its entries, or one entry that is longer.
    assert!(APPEND_LEN_MAX + WRITE_LEN_MAX + 64 * KIB < FRAME_LEN_MAX);
    assert!(FRAME_LEN_MAX < PEER_UNSENT_MAX);
    // A follower writes what one message brought as one batch, and a batch lies within a segment.
    assert!(FRAME_LEN_MAX < BATCH_PAYLOAD_MAX);
    assert!(2 * BATCH_PAYLOAD_MAX < SEGMENT_LEN);
    assert!(APPEND_LEN_MAX < UNCOMMITTED_LEN_MAX);
    assert!(WRITE_LEN_MAX < UNCOMMITTED_LEN_MAX);
    assert!(BUFFER_COMMIT_LEN * 2 < BUFFER_LEN_MAX);
    assert!(RESULT_LEN_MAX < REMEMBERED_LEN_MAX);
    assert!(SCANS_MAX + 64 < MAP_READERS_MAX as usize);
    assert!(2 * MAX_BYTES_DEFAULT < MAP_LEN as u64);
    assert!(DISK_RESERVE > 2 * SEGMENT_LEN as u64);
    assert!(RETAINED_LEN_MAX <= RETAINED_STREAMING_LEN_MAX);
    assert!(RETAINED_ENTRIES_MAX <= RETAINED_STREAMING_ENTRIES_MAX);
    // What the state machine lets go of makes room: what is kept behind it, and what no leader has committed, do not fill the
    // log. Nor does what a leader takes before it refuses writes.
    assert!(RETAINED_STREAMING_LEN_MAX + UNCOMMITTED_LEN_MAX + BUFFER_LEN_MAX < LOG_LEN_MAX);
    assert!(RETAINED_STREAMING_ENTRIES_MAX + PEERS_MAX * REQUESTS_MAX < LOG_ENTRIES_MAX);
    // A part of a snapshot is a frame: its rows, or one row that is longer. A remembered result is the longest.
    assert!(SNAPSHOT_CHUNK_LEN + RESULT_LEN_MAX + 64 * KIB < FRAME_LEN_MAX);
    assert!(KEY_LEN_MAX + VALUE_LEN_MAX < RESULT_LEN_MAX);
    // All about a member takes less than four times its addresses.
    assert!(4 * MEMBERS_MAX * (ADDRESS_LEN_MAX + NAME_LEN_MAX) < SNAPSHOT_META_LEN_MAX);
    assert!(SNAPSHOT_WINDOW_FIRST <= SNAPSHOT_WINDOW);
    // A window that was read, and the chunk after it.
    assert!(SNAPSHOT_WINDOW as usize + 1 < SNAPSHOT_STARTS_MAX);
    assert!(SNAPSHOTS_MAX + SCANS_MAX + 64 < MAP_READERS_MAX as usize);
    assert!(VOTERS_MAX % 2 == 1);
    assert!(ORDERS_MAX < REQUESTS_MAX);
    // Whoever is removed in one change is remembered.
    assert!(MEMBERS_MAX < REMOVED_MAX);
    // A packet holds the longest introduction with a body; a table holds every member.
    assert!(GOSSIP_NODE_LEN_MAX + 400 < GOSSIP_PACKET_LEN_MAX);
    assert!((GOSSIP_MEMBERS_MAX + 1) * (GOSSIP_NODE_LEN_MAX + 64) < GOSSIP_SYNC_LEN_MAX);
    assert!(GOSSIP_SYNC_LEN_MAX < FRAME_LEN_MAX);
    assert!(MEMBERS_MAX < GOSSIP_MEMBERS_MAX);
    assert!(GOSSIP_SEEDS_MAX < GOSSIP_PINGS_MAX);
    // `localhost` may have two addresses.
    assert!(2 * GOSSIP_LOOPBACK_PORTS as usize <= GOSSIP_SEEDS_MAX);
};
