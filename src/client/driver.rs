//! The client's background thread: see [`super::core`].

use std::sync::Arc;
use std::thread;

use super::connection::{self, Incoming, Link};
use super::core::{Core, Job};
use crate::wire::client::Welcome;

/// Does what takes time, until the client is closed.
pub(super) fn run(core: &Arc<Core>) {
    loop {
        match core.next_job() {
            Job::Connect { address, cluster_id, epoch } => {
                let timeout = core.options.attempt_timeout;
                let opened = connection::open(&address, cluster_id, epoch, timeout);
                match opened {
                    Ok(opened) => adopt(core, opened),
                    Err(error) => core.not_connected(error),
                }
            }
            Job::Send { link, frames } => link.send(&frames),
            Job::Stop => return,
        }
    }
}

/// Makes a connection the client's, and starts its reader.
fn adopt(core: &Arc<Core>, (link, incoming, welcome): (Link, Incoming, Welcome)) {
    let link = Arc::new(link);
    if !core.connected(link.clone(), welcome) {
        link.close();
        return;
    }
    let (reading, read_core) = (link.clone(), core.clone());
    let spawned = thread::Builder::new()
        .name("phalanx-reader".to_owned())
        .spawn(move || read_core.read(&reading, incoming));
    if let Err(error) = spawned {
        core.ended(&link, &format!("the system gives no thread to read it with: {error}"));
    }
}
