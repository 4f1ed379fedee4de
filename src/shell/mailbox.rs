//! From a thread to the reactor: a queue and a waker.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

/// The threads' end. What is queued is bounded by what the reactor has asked the threads to do.
pub(super) struct Mailbox<T>(Arc<Mutex<Inner<T>>>);

struct Inner<T> {
    queue: VecDeque<T>,
    waker: Option<Waker>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Mailbox<T> {
        Mailbox(self.0.clone())
    }
}

impl<T> Mailbox<T> {
    pub fn new() -> Mailbox<T> {
        Mailbox(Arc::new(Mutex::new(Inner { queue: VecDeque::new(), waker: None })))
    }

    /// Queues a message and wakes the reactor. From any thread.
    pub fn send(&self, message: T) {
        let waker = {
            let mut inner = self.lock();
            inner.queue.push_back(message);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The messages that are there; waits for one. For the one task that owns this end.
    pub async fn receive(&self) -> VecDeque<T> {
        poll_fn(|cx| {
            let mut inner = self.lock();
            match inner.queue.is_empty() {
                false => Poll::Ready(std::mem::take(&mut inner.queue)),
                true => {
                    inner.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // A thread that panics with the lock held leaves the queue whole: each change of it is one call.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
