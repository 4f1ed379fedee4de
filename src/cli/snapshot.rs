//! `phalanx snapshot`: backups. What is saved is checked on its way, and has its name only when it is whole and on the disk:
//! until then it is `FILE.<process id>.partial`.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::json;

use super::args::{CheckSnapshot, SaveSnapshot};
use super::output::Output;
use super::{Failure, Result, partial};
use crate::client::{Client, Snapshot};
use crate::store::WindowBounds;
use crate::store::transfer::{Inspection, file};
use crate::wire::snapshot::Header;

/// Between two words about how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);

pub fn save(
    client: &Client,
    save: &SaveSnapshot,
    out: &mut Output<'_>,
    mut progress: Option<&mut dyn Write>,
) -> Result<()> {
    refuse_stream(&save.file)?;
    let path = Path::new(&save.file);
    refuse_to_overwrite(path, save.force)?;
    // A name of this process's own: two that save to one file do not write into each other's.
    let unnamed = PathBuf::from(format!("{}.{}.partial", save.file, std::process::id()));
    let snapshot = client.snapshot()?;
    let failed = |e: io::Error| Failure::File(format!("cannot write {}: {e}", unnamed.display()));
    let mut file = BufWriter::new(partial::create(&unnamed).map_err(failed)?);
    let saved = write_all(snapshot, &mut file, &failed, &mut progress).and_then(|header| {
        // On the disk first: a name never leads to less than all of it.
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(failed)?;
        give_name(&unnamed, path, save.force)?;
        sync_parent(path).map_err(failed)?;
        Ok(header)
    });
    if let Some(progress) = &mut progress {
        // To the start of the line, and no further: what was told is over.
        write!(progress, "\r\x1b[K")?;
    }
    let header = saved.inspect_err(|_| {
        // What is there of it is of no use. If it cannot be removed, its name says what it is.
        let _ = fs::remove_file(&unnamed);
    })?;
    print(&save.file, &format!("saved {}", save.file), &header, out)
}

/// `-` is the standard streams to whoever types it. But half a backup must not look like a whole one to whoever reads it from
/// there, and `--restore` reads twice: a backup is a file.
fn refuse_stream(file: &str) -> Result<()> {
    match file {
        "-" => Err(Failure::Usage(
            "- is no file, and a backup is one: it has its name only when it is whole. Give a name (or ./- for a file that is \
             named so)"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

fn refuse_to_overwrite(path: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(Failure::Usage(format!(
            "{} is no file, and is not replaced by one: give another name",
            path.display()
        ))),
        Ok(_) if !force => Err(exists(path)),
        _ => Ok(()),
    }
}

fn exists(path: &Path) -> Failure {
    let path = path.display();
    Failure::Usage(format!("{path} exists: give another name, or --force to replace it"))
}

/// Gives a whole backup its name. Who else took it meanwhile keeps it, unless forced.
fn give_name(unnamed: &Path, path: &Path, force: bool) -> Result<()> {
    let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    let renamed = match renameat_with(CWD, unnamed, CWD, path, flags) {
        Err(Errno::EXIST) if !force => return Err(exists(path)),
        // Some file systems cannot do both in one step.
        Err(Errno::INVAL | Errno::NOSYS) if !force => {
            refuse_to_overwrite(path, force)?;
            fs::rename(unnamed, path)
        }
        renamed => renamed.map_err(io::Error::from),
    };
    let (from, to) = (unnamed.display(), path.display());
    renamed.map_err(|e| Failure::File(format!("cannot rename {from} to {to}: {e}")))
}

fn write_all(
    mut snapshot: Snapshot,
    file: &mut impl Write,
    failed: &impl Fn(io::Error) -> Failure,
    progress: &mut Option<&mut dyn Write>,
) -> Result<Header> {
    let mut inspection = Inspection::new(WindowBounds::default());
    let unsound = |refused: &dyn std::fmt::Display| {
        Failure::Damaged(format!(
            "what the node sent is not sound, and nothing is saved: {refused}"
        ))
    };
    file::write_start(file).map_err(failed)?;
    let (mut len_bytes, mut told) = (0, Instant::now());
    while let Some(chunk) = snapshot.next_chunk()? {
        inspection.add(&chunk).map_err(|refused| unsound(&refused))?;
        file::write_chunk(file, &chunk).map_err(failed)?;
        len_bytes += chunk.rows.len() as u64;
        if let (Some(progress), Some(header)) = (&mut *progress, inspection.header())
            && told.elapsed() >= TELL_EVERY
        {
            told = Instant::now();
            let (here, all) = (mib(len_bytes), mib(header.logical_bytes));
            write!(progress, "\r\x1b[Ksaving: {here} of about {all}")?;
            progress.flush()?;
        }
    }
    if !inspection.is_complete() {
        return Err(unsound(&"it ends before its last chunk"));
    }
    let (header, _) = inspection.finish().map_err(|refused| unsound(&refused))?;
    Ok(header)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

pub fn check(check: &CheckSnapshot, out: &mut Output<'_>) -> Result<()> {
    refuse_stream(&check.file)?;
    let read = |flaw: file::Flaw| match flaw {
        file::Flaw::Io(e) => Failure::File(format!("cannot read {}: {e}", check.file)),
        damaged => Failure::Damaged(format!("{} {damaged}", check.file)),
    };
    let opened = File::open(&check.file).map_err(|e| read(file::Flaw::Io(e)))?;
    let (header, _) = file::check(BufReader::new(opened)).map_err(read)?;
    print(&check.file, &format!("{} is whole", check.file), &header, out)
}

fn print(file: &str, what: &str, header: &Header, out: &mut Output<'_>) -> Result<()> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let Header { index, term, revision, time_ms, keys, logical_bytes, .. } = *header;
    let (cluster_id, digest) = (hex(&header.cluster_id), hex(&header.digest));
    out.line(
        || {
            json!({
                "file": file, "cluster_id": cluster_id, "index": index, "term": term, "revision": revision,
                "time_ms": time_ms, "keys": keys, "bytes": logical_bytes, "digest": digest,
            })
        },
        || {
            format!(
                "{what}: revision {revision} of {}, {keys} keys, {logical_bytes} bytes\n\
                 digest {digest}, entry {index} of cluster {cluster_id}",
                utc(time_ms)
            )
        },
    )?;
    Ok(())
}

fn mib(len_bytes: u64) -> String {
    format!("{:.1} MiB", len_bytes as f64 / (1 << 20) as f64)
}

/// Milliseconds since 1970 as date and time. What is no time of this calendar is told as it is.
fn utc(time_ms: u64) -> String {
    let time =
        i64::try_from(time_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("{time_ms} ms after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_told_as_people_tell_them() {
        for (time_ms, told) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399_999, "2000-02-28 23:59:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199_000, "2024-02-29 23:59:59 UTC"),
            (1_795_379_276_000, "2026-11-22 20:27:56 UTC"),
        ] {
            assert_eq!(utc(time_ms), told);
        }
    }
}
