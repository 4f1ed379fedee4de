//! The log on a disk that does what it likes, within reason and beyond.
//!
//! What must hold:
//! - Recovery never panics. It accepts what is on the disk, or refuses.
//! - As long as nothing worse happens than torn writes, it accepts, tells of the torn one, and all batches are there whose
//!   write had returned, but for those in segments that were given up because all in them was committed.
//! - What it has accepted, it has synced; it can be appended to, and is recovered again to the same and what was appended.
//!   Only a sector that was damaged before, and in which the next batch would begin, may be refused then.
//!
//! An input is a row of strokes, each a byte for its kind and what that needs. What forges a batch or a sector makes its
//! checksum right, so that mutations come further than that; what damages one does not.

use bytes::Bytes;
use prost::Message;

use phalanx::error::Error;
use phalanx::log::format::{self, FORMAT_VERSION, Header, SECTOR_LEN, Sector, Stamp};
use phalanx::log::{Contents, Disk, Log, MemDisk, Place, Torn, prepare, recover, segment};
use phalanx::wire::log::{Entry, EntryId, HardState, Promise, Record, Snapshot, Standing};

use super::input::Input;

/// Segments of four blocks: a few batches fill one.
const SEGMENT_LEN: usize = 4 * format::BLOCK_LEN;
const SECTORS: usize = SEGMENT_LEN / SECTOR_LEN;
const ENTRY_LEN_END: u16 = 4000;
/// A standing that was forged may be longer than any that a node has: a segment of this size has no room for it.
const STANDING_LEN_MAX: usize = 2000;
const STROKES_MAX: usize = 40;
/// High, so that few of the forged ones are above it.
const FIRST_GENERATION: u32 = 1 << 20;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut node = Node::start();
    for _ in 0..STROKES_MAX {
        if input.is_empty() {
            break;
        }
        if node.stroke(&mut input).is_none() {
            return;
        }
    }
    node.end();
}

/// A node's log and what it must hold. A call that gives `None` has met a refusal that may be: the run is over.
struct Node {
    disk: MemDisk,
    log: Log,
    generation: u32,
    /// Of the last batch that was made.
    sequence: u64,
    expected: Contents,
    /// Something else than a batch of the log was written since the last recovery.
    is_tampered: bool,
}

impl Node {
    fn start() -> Node {
        let disk = MemDisk::default();
        let recovery = recover(&disk, SEGMENT_LEN, FIRST_GENERATION);
        let log = recovery.expect("an empty directory is an empty log").log;
        Node {
            disk,
            log,
            generation: FIRST_GENERATION,
            sequence: 0,
            expected: Contents::default(),
            is_tampered: false,
        }
    }

    fn stroke(&mut self, input: &mut Input<'_>) -> Option<()> {
        let kind = input.below(9);
        if kind >= 4 {
            self.is_tampered = true;
        }
        match kind {
            0 | 1 => {
                self.append(&record(input, &self.expected), |_| true)?;
                if kind == 1 {
                    self.log.release(self.expected.hard_state.commit);
                }
                Some(())
            }
            2 => self.tear(input),
            3 => self.restart(None),
            4 => self.patch(input, false),
            5 => self.patch(input, true),
            6 => self.misdirect(input),
            7 => self.forge(input),
            _ => self.handle_files(input),
        }
    }

    /// Whatever was accepted so far is gone on with.
    fn end(mut self) {
        let go_on = |node: &mut Node| {
            node.restart(None)?;
            let entries = match node.expected.last_index().checked_add(1) {
                Some(index) => vec![Entry { term: 1, index, ..Entry::default() }],
                None => Vec::new(),
            };
            node.append(&Record { entries, ..Record::default() }, |_| true)?;
            node.restart(None)
        };
        let _ = go_on(&mut self);
    }

    // ---- What a node does. ----

    /// Writes the next batch, or only the sectors that `keep` is true for. Gives its place and how many sectors it lacks.
    fn append(&mut self, record: &Record, keep: impl Fn(usize) -> bool) -> Option<(Place, usize)> {
        if self.expected.standing.encoded_len() > STANDING_LEN_MAX {
            return None;
        }
        while let Some(wish) = self.log.next_to_prepare() {
            // A file that was given this name by force is in the way of nothing: it is made anew. One that was to be recycled
            // may be gone.
            if let Err(error) = prepare(&self.disk, &wish) {
                assert!(self.is_tampered, "a disk in memory takes a segment: {error}");
                return None;
            }
            self.log.prepared(wish.ordinal);
        }
        let append = self.log.append(record).expect("a segment is prepared");
        let (place, sequence) = (append.place, append.sequence);
        if sequence >= format::SEQUENCE_END {
            return None;
        }
        let mut bytes = vec![0xaa; append.len_bytes()];
        append.seal_into(&mut bytes);
        let name = segment::file_name(place.ordinal);
        if self.disk.write_torn(&name, place.offset, &bytes, &keep).is_err() {
            assert!(self.is_tampered, "there is no room for a batch at {place:?}");
            return None;
        }
        let missing = (0..bytes.len() / SECTOR_LEN).filter(|&sector| !keep(sector)).count();
        self.sequence = sequence;
        if missing == 0 {
            self.log.persisted(sequence);
            fold(&mut self.expected, record);
        }
        Some((place, missing))
    }

    /// The machine stops in the middle of a write.
    fn tear(&mut self, input: &mut Input<'_>) -> Option<()> {
        let kept = input.u16();
        let record = record(input, &self.expected);
        let (place, missing) = self.append(&record, |sector| kept >> (sector % 16) & 1 == 1)?;
        let is_seen = missing > 0 && missing < format::batch_len(record.encoded_len()) / SECTOR_LEN;
        self.restart(is_seen.then(|| Torn {
            file: self.disk.path(&segment::file_name(place.ordinal)),
            offset: place.offset,
            sequence: self.sequence,
        }))
    }

    /// Recovers. `torn` must be found, unless somebody has tampered.
    fn restart(&mut self, torn: Option<Torn>) -> Option<()> {
        self.generation += 1;
        let recovery = match recover(&self.disk, SEGMENT_LEN, self.generation) {
            Ok(recovery) => recovery,
            Err(error) => {
                let may_be = self.is_tampered || self.is_damage(&error);
                assert!(may_be, "what was accepted is refused: {error}");
                return None;
            }
        };
        assert!(self.disk.unsynced().is_empty(), "it was accepted, and is not durable");
        let contents = recovery.contents;
        if self.is_tampered {
            check_indexes(&contents);
            self.expected = contents;
        } else {
            check_kept(&contents, &self.expected);
            assert!(torn.is_none() || torn == recovery.torn, "{torn:?}, not {:?}", recovery.torn);
        }
        self.log = recovery.log;
        self.is_tampered = false;
        Some(())
    }

    /// Whether a sector is refused that is damaged, which no write of the log's can have done.
    fn is_damage(&self, error: &Error) -> bool {
        let Error::Corrupt { file, offset, .. } = error else { return false };
        let name = file.file_name().expect("a segment is a file").to_string_lossy();
        let sector = self.sector(&name, *offset as usize / SECTOR_LEN);
        Sector::read(&sector) == Sector::Damaged
    }

    // ---- What is done to it. ----

    /// Bytes within a sector are others; if `mend`, its checksum is right again.
    fn patch(&mut self, input: &mut Input<'_>, mend: bool) -> Option<()> {
        let (name, number) = self.pick(input)?;
        let mut sector = self.sector(&name, number);
        let start = usize::from(input.u16()) % SECTOR_LEN;
        let patch = input.sized(5);
        for (byte, new) in sector[start..].iter_mut().zip(patch) {
            *byte = *new;
        }
        if mend {
            let (content, checksum) = sector.split_at_mut(SECTOR_LEN - 4);
            checksum.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
        }
        self.put(&name, number, &sector);
        Some(())
    }

    /// A sector is written to a second place.
    fn misdirect(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (from, to) = (self.pick(input)?, self.pick(input)?);
        let sector = self.sector(&from.0, from.1);
        self.put(&to.0, to.1, &sector);
        Some(())
    }

    /// A batch that no log has written, sealed as one.
    fn forge(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (name, sector) = self.pick(input)?;
        let flags = input.u8();
        let near = i64::from(input.u8() as i8);
        let sequence =
            if flags & 1 == 0 { self.sequence.wrapping_add_signed(near) } else { input.u64() };
        let later = if flags & 2 == 0 { 0 } else { i32::from(input.u8() as i8) };
        let stamp = Stamp {
            sequence: sequence % format::SEQUENCE_END,
            generation: self.generation.saturating_add_signed(later),
        };
        let payload = if flags & 4 == 0 { input.sized(11).to_vec() } else { forged_record(input) };
        let header = Header {
            version: if flags & 8 == 0 { FORMAT_VERSION } else { input.u8().into() },
            payload_len: payload.len() as u32
                ^ if flags & 16 == 0 { 0 } else { input.u16().into() },
            // It was picked from the names of segments and of others.
            ordinal: segment::ordinal(&name).unwrap_or_default(),
        };
        let mut content = Vec::new();
        header.write(&mut content);
        content.extend_from_slice(&payload);
        let mut bytes = vec![0; format::batch_len(payload.len())];
        format::seal(&content, stamp, &mut bytes);
        for (number, piece) in (sector..SECTORS).zip(bytes.as_chunks().0) {
            self.put(&name, number, piece);
        }
        Some(())
    }

    /// Files come, go and are given other names.
    fn handle_files(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (name, sector) = self.pick(input)?;
        let kind = input.below(5);
        let new = segment::file_name(u64::from(input.u8()) % 12);
        match kind {
            0 => self.disk.remove(&name),
            1 => self.disk.rename(&name, &new),
            2 => self.disk.create_zeroed(&new, SEGMENT_LEN as u64),
            3 => self.disk.create_zeroed(&format!("{new}.tmp"), 0),
            _ => self.disk.create_zeroed(&name, (sector * SECTOR_LEN) as u64),
        }
        .expect("the file is there");
        Some(())
    }

    /// A file and the number of a sector; the first that are tampered with are of an empty log.
    fn pick(&mut self, input: &mut Input<'_>) -> Option<(String, usize)> {
        let mut names = self.disk.list().expect("a disk in memory lists its files");
        if names.is_empty() {
            let name = segment::file_name(1);
            self.disk.create_zeroed(&name, SEGMENT_LEN as u64).expect("it takes a segment");
            names.push(name);
        }
        let name = names.swap_remove(input.below(names.len()));
        Some((name, input.below(SECTORS)))
    }

    fn sector(&self, name: &str, number: usize) -> [u8; SECTOR_LEN] {
        let mut sector = [0; SECTOR_LEN];
        let offset = (number * SECTOR_LEN) as u64;
        self.disk.read_at(name, offset, &mut sector).expect("the file is there");
        sector
    }

    /// A file that is too short stays as it is.
    fn put(&self, name: &str, number: usize, sector: &[u8; SECTOR_LEN]) {
        let _ = self.disk.write_at(name, (number * SECTOR_LEN) as u64, sector);
    }
}

// ---- Records. ----

/// A record as consensus makes them: it replaces nothing that is committed, and calls nothing committed that is not there.
fn record(input: &mut Input<'_>, expected: &Contents) -> Record {
    let flags = input.u8();
    let state = &expected.hard_state;
    let mut next = next_index(input, expected);
    let snapshot = next.filter(|_| flags & 64 != 0).map(|next| {
        let index = next.saturating_add(input.below(4) as u64);
        let last = EntryId { index, term: u64::from(flags) };
        Snapshot { last: Some(last), state: expected.state.saturating_add(1) }
    });
    let base = snapshot.and_then(|snapshot| snapshot.last);
    next = base.map_or(next, |last| last.index.checked_add(1));
    let mut entries = Vec::new();
    for _ in 0..flags & 3 {
        let Some(index) = next else { break };
        let data = vec![input.u8(); usize::from(input.u16() % ENTRY_LEN_END)];
        let kind = (flags >> 7).into();
        entries.push(Entry { term: u64::from(flags) + 1, index, kind, data: Bytes::from(data) });
        next = index.checked_add(1);
    }
    let before = base.map_or(expected.last_index(), |last| last.index);
    let last = entries.last().map_or(before, |entry| entry.index);
    let committed = base.map_or(state.commit, |last| last.index);
    let hard_state = (flags & 4 != 0 || snapshot.is_some()).then(|| HardState {
        term: input.u8().into(),
        vote: input.u8().into(),
        commit: last.saturating_sub(input.below(8) as u64).max(committed),
    });
    let standing = (flags & 8 != 0).then(|| Standing {
        cluster_id: vec![flags; if flags & 16 != 0 { 16 } else { 0 }].into(),
        promise: (flags & 32 != 0).then(|| Promise {
            raft_id: input.u64(),
            name: String::from_utf8_lossy(input.sized(6)).into_owned(),
            ..Promise::default()
        }),
        ..Standing::default()
    });
    Record { entries, hard_state, standing, snapshot, carried: None }
}

/// Behind the last entry, or up to three before that.
fn next_index(input: &mut Input<'_>, expected: &Contents) -> Option<u64> {
    let back = input.below(4) as u64;
    let next = expected.last_index().checked_add(1)?;
    let floor = expected.hard_state.commit.checked_add(1)?;
    Some(next.saturating_sub(back).max(floor))
}

/// What the log holds, with one more record.
fn fold(contents: &mut Contents, record: &Record) {
    if let Some(snapshot) = record.snapshot {
        contents.entries.clear();
        contents.base = snapshot.last.expect("a snapshot is as of some entry");
        contents.state = snapshot.state;
    }
    for entry in &record.entries {
        contents.entries.retain(|old| old.index < entry.index);
        if entry.index <= contents.base.index {
            contents.base = EntryId { index: entry.index - 1, term: 0 };
        }
        contents.entries.push(entry.clone());
    }
    contents.hard_state = record.hard_state.unwrap_or(contents.hard_state);
    if let Some(standing) = &record.standing {
        contents.standing.clone_from(standing);
    }
}

/// A record with indexes that nobody has given.
fn forged_record(input: &mut Input<'_>) -> Vec<u8> {
    let count = input.below(4) as u64;
    let first = input.u64();
    let step = u64::from(input.u8());
    let entries = (0..count)
        .map(|i| Entry { index: first.wrapping_add(i.wrapping_mul(step)), ..Entry::default() });
    let hard_state = HardState { commit: input.u64(), ..HardState::default() };
    let record =
        Record { entries: entries.collect(), hard_state: Some(hard_state), ..Record::default() };
    record.encode_to_vec()
}

/// All is there, but for entries at the front that were given up, and a state machine that has applied what is committed can
/// go on with it.
fn check_kept(found: &Contents, expected: &Contents) {
    let kept = expected.entries.iter().filter(|entry| entry.index > found.base.index);
    assert!(kept.eq(&found.entries), "entries are lost, or came back: {found:?}, not {expected:?}");
    assert!(found.base.index >= expected.base.index, "entries came back: {found:?}");
    assert_eq!(
        (found.last(), found.state, found.hard_state, &found.standing),
        (expected.last(), expected.state, expected.hard_state, &expected.standing)
    );
    let commit = expected.hard_state.commit;
    let committed = expected.entries.iter().find(|entry| entry.index == commit);
    let committed = committed.map(|entry| EntryId { index: commit, term: entry.term });
    let base = Some(expected.base).filter(|base| base.index == commit);
    if let Some(applied) = committed.or(base).filter(|applied| applied.term > 0) {
        assert!(found.clone().start(applied).is_ok(), "nobody can go on with {found:?}");
    }
}

fn check_indexes(contents: &Contents) {
    let first = contents.entries.first();
    assert!(first.is_none_or(|first| first.index == contents.base.index + 1), "a gap in front");
    for pair in contents.entries.windows(2) {
        assert_eq!(pair[0].index.checked_add(1), Some(pair[1].index), "a gap was accepted");
    }
    assert!(contents.hard_state.commit <= contents.last_index(), "it is committed, and missing");
}
