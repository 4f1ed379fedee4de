//! SIGTERM and SIGINT: the first asks the node to stop, the second ends the process at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::mailbox::Mailbox;
use super::reactor::News;
use crate::error::{Error, Result};

/// The exit status of a process that was told twice.
const EXIT_AT_ONCE: i32 = 130;

/// Watches on a thread of its own: the reactor has no signals.
pub(super) fn watch(mailbox: Mailbox<News>) -> Result<()> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|e| Error::io("watch for signals", e))?;
    let watch = move || {
        let mut told = false;
        for _signal in signals.forever() {
            if told {
                std::process::exit(EXIT_AT_ONCE);
            }
            told = true;
            mailbox.send(News::Stop);
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map_err(|e| Error::io("start a thread", e))?;
    Ok(())
}
