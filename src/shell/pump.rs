//! One socket, both directions, one task.
//!
//! Whoever has something to send puts it into the [`Outbox`]; the task that owns the [`Pump`] writes it and reads what
//! comes. Nothing is read into a buffer of the connection's own until there is something to read, so that an idle
//! connection costs little.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use glommio::net::TcpStream;

use crate::wire::frame;

/// Read at once from one socket.
const READ_LEN: usize = 64 * 1024;

/// The largest buffer that an idle connection keeps.
const KEPT_LEN_MAX: usize = 4 * 1024;

/// How long an end waits for the other end's.
const LINGER_MAX: Duration = Duration::from_secs(2);

thread_local! {
    /// What is read lies here until it is copied on, within the same poll.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_LEN].into_boxed_slice());
}

/// What waits to be sent on a connection.
#[derive(Default)]
pub(super) struct Outbox {
    unsent: RefCell<BytesMut>,
    waker: Cell<Option<Waker>>,
    woken: Cell<bool>,
    closing: Cell<bool>,
    dead: Cell<bool>,
    stalled_since: Cell<Option<Instant>>,
}

impl Outbox {
    /// Queues a message as a frame.
    pub fn send(&self, message: &impl prost::Message) {
        frame::encode(message, &mut self.unsent.borrow_mut());
        self.wake();
    }

    /// Bytes that are not sent yet.
    pub fn unsent_len(&self) -> usize {
        self.unsent.borrow().len()
    }

    /// Ends the connection when all is sent.
    pub fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    /// Whether it ends when all is sent.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Ends the connection now.
    pub fn kill(&self) {
        self.dead.set(true);
        self.wake();
    }

    /// Since when the other end has taken nothing of what waits for it.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since.get()
    }

    /// Has the connection's task look again.
    pub fn wake(&self) {
        self.woken.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What a pump was woken for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Bytes came: they are in the buffer that was given.
    Read,
    /// The outbox was woken.
    Woken,
    /// The connection is over, from whichever end.
    Closed,
}

/// See the [module](self).
pub(super) struct Pump {
    pub stream: TcpStream,
    outbox: Rc<Outbox>,
}

impl Pump {
    /// Drives `stream`; nothing is held back to be sent together with more.
    pub fn new(stream: TcpStream, outbox: Rc<Outbox>) -> Pump {
        // Best effort: the connection works without.
        let _ = stream.set_nodelay(true);
        Pump { stream, outbox }
    }

    /// Sends what there is to send, and waits for the next event. `take` is given what is read, if `read` allows reading.
    pub async fn next(&mut self, read: bool, mut take: impl FnMut(&[u8])) -> Event {
        poll_fn(|cx| self.poll(cx, read, &mut take)).await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        read: bool,
        take: &mut impl FnMut(&[u8]),
    ) -> Poll<Event> {
        self.outbox.waker.set(Some(cx.waker().clone()));
        let Ok(has_sent) = self.flush(cx) else { return Poll::Ready(Event::Closed) };
        if self.outbox.dead.get() {
            return Poll::Ready(Event::Closed);
        }
        if self.outbox.closing.get() && self.outbox.unsent_len() == 0 {
            return Poll::Ready(Event::Closed);
        }
        if read {
            let polled = SCRATCH.with_borrow_mut(|scratch| {
                let polled = Pin::new(&mut self.stream).poll_read(cx, scratch);
                if let Poll::Ready(Ok(len)) = polled {
                    take(&scratch[..len]);
                }
                polled
            });
            match polled {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Poll::Ready(Event::Closed),
                Poll::Ready(Ok(_)) => return Poll::Ready(Event::Read),
                Poll::Pending => {}
            }
        }
        // Whoever does not read waits for room: it may be there now, for an answer came or went.
        match self.outbox.woken.replace(false) || has_sent {
            true if !read => Poll::Ready(Event::Woken),
            _ => Poll::Pending,
        }
    }

    /// Sends what the socket takes. Tells whether it took anything.
    fn flush(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        let mut unsent = self.outbox.unsent.borrow_mut();
        let mut has_sent = false;
        while !unsent.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &unsent) {
                Poll::Ready(Ok(len)) => {
                    unsent.advance(len);
                    has_sent = true;
                    self.outbox.stalled_since.set(None);
                }
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => {
                    if self.outbox.stalled_since.get().is_none() {
                        self.outbox.stalled_since.set(Some(Instant::now()));
                    }
                    return Ok(has_sent);
                }
            }
        }
        // A small buffer is kept for the next message; an idle connection does not hold a large one.
        match unsent.capacity() > KEPT_LEN_MAX {
            true => *unsent = BytesMut::new(),
            false => unsent.clear(),
        }
        Ok(has_sent)
    }
}

/// Ends a connection that was sent its last word: takes in and drops what still comes until the other end closes it too,
/// but not for long. A socket that is closed with bytes unread is reset, and the last word may be lost.
pub(super) async fn linger(stream: &mut TcpStream) {
    let drained = async {
        stream.shutdown(Shutdown::Write).await?;
        let mut dropped = [0; 1024];
        while stream.read(&mut dropped).await? > 0 {
            glommio::yield_if_needed().await;
        }
        Ok::<(), std::io::Error>(())
    };
    // Over is over, whatever ends it.
    let _ = glommio::timer::timeout(LINGER_MAX, async { Ok(drained.await) }).await;
}
