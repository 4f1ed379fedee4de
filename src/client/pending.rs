//! The handle of a request that is on its way.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::{Error, Handle, Reply, Result};
use crate::wire::client::{Response, response};

/// A request that was sent and not waited for. Dropping it does not take the request back.
#[derive(Debug)]
#[must_use = "whether the request succeeded is known only after `wait`"]
pub struct Pending<T> {
    pub(super) state: PendingState,
    /// Takes the result out of the answer; `None` if the answer is of another kind.
    pub(super) decode: fn(response::Result) -> Option<T>,
}

#[derive(Debug)]
pub(super) enum PendingState {
    /// It never left.
    Failed(Error),
    Sent {
        id: u64,
        deadline: Instant,
        receiver: Receiver<Result<Response>>,
        /// Keeps the client alive until the answer is there.
        handle: Arc<Handle>,
    },
}

impl<T> Pending<T> {
    /// Blocks until the answer is there, or the deadline, which began to run when the request was made.
    pub fn wait(self) -> Result<Reply<T>> {
        let response = match self.state {
            PendingState::Failed(error) => return Err(error),
            PendingState::Sent { id, deadline, receiver, handle } => {
                let left = deadline.saturating_duration_since(Instant::now());
                match receiver.recv_timeout(left) {
                    Ok(result) => result?,
                    Err(_) => match handle.core.give_up(id) {
                        Some(error) => return Err(error),
                        // Taken out of the table just now: its result is here, or about to be.
                        None => receiver
                            .recv()
                            .map_err(|_| Error::unknown("the client stopped unexpectedly"))??,
                    },
                }
            }
        };
        let Response { revision, stale_ms, result, .. } = response;
        match result.and_then(self.decode) {
            Some(result) => Ok(Reply { result, revision, stale_ms }),
            None => Err(Error::unknown(
                "the node answered with the result of another kind of request: is it of another version?",
            )),
        }
    }
}
