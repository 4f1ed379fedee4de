//! The loop: everything that happens is queued, and one turn of the [node] takes it all.
//!
//! Whatever arrives while a turn is due (from clients, peers, the disk, the threads) is one turn's work, so that the busier
//! the node, the larger its batches: one write of the log, one message per follower, one round of reads.
//!
//! Invariant: only [`Reactor::run`] touches the node, except for looks at it that change nothing and for greetings.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::config::Settings;
use crate::error::{Error, Result};
use crate::node::{self, ConnectionId, Effects, Node};
use crate::replica::FINE_TICKS;
use crate::store::lmdb::LmdbMap;

use super::clients::Client;
use super::disk::LogDisk;
use super::links::Links;
use super::mailbox::Mailbox;
use super::mesh::Mesh;
use super::threads::Threads;

/// What happens to this node.
pub(super) type Input = node::Input<LmdbMap>;

/// What the threads tell the reactor.
pub(super) enum News {
    /// For the node.
    Input(Box<Input>),
    /// A write, a sync or a commit failed: the node stops.
    Failed(Error),
    /// The process was asked to stop.
    Stop,
}

/// After being asked to stop, a node is done by then.
const STOP_WITHIN: Duration = Duration::from_millis(1600);

/// See the [module](self).
pub(super) struct Reactor {
    pub settings: Settings,
    node: RefCell<Node<LmdbMap>>,
    inbox: RefCell<VecDeque<Input>>,
    waker: Cell<Option<Waker>>,
    failed: Cell<Option<Error>>,
    stop_since: Cell<Option<Instant>>,
    epoch: Instant,
    /// Up to when ticks were given to the node, and for how many the timer is set.
    ticked_to: Cell<Instant>,
    ticks_asked: Cell<u32>,
    /// The timer's time has come.
    tick_due: Cell<bool>,
    /// Of the task that sleeps until then.
    timer: Cell<Option<Waker>>,
    next_connection: Cell<ConnectionId>,
    pub clients: RefCell<HashMap<ConnectionId, Rc<Client>>>,
    pub links: Links,
    pub mesh: Mesh,
    pub disk: LogDisk,
    pub threads: Threads,
    pub ticks_dropped: Cell<u64>,
    pub protocol_errors: Cell<u64>,
}

impl Reactor {
    pub fn new(
        settings: Settings,
        node: Node<LmdbMap>,
        epoch: Instant,
        mesh: Mesh,
        disk: LogDisk,
        threads: Threads,
    ) -> Reactor {
        Reactor {
            settings,
            node: RefCell::new(node),
            inbox: RefCell::default(),
            waker: Cell::default(),
            failed: Cell::default(),
            stop_since: Cell::default(),
            epoch,
            ticked_to: Cell::new(Instant::now()),
            ticks_asked: Cell::new(1),
            tick_due: Cell::new(false),
            timer: Cell::default(),
            next_connection: Cell::new(1),
            clients: RefCell::default(),
            links: Links::default(),
            mesh,
            disk,
            threads,
            ticks_dropped: Cell::default(),
            protocol_errors: Cell::default(),
        }
    }

    /// Queues an input for the next turn.
    pub fn post(&self, input: Input) {
        self.inbox.borrow_mut().push_back(input);
        self.wake();
    }

    /// Stops the node for a failure of this machine.
    pub fn fail(&self, error: Error) {
        self.failed.set(Some(error));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The node, to look at.
    pub fn node(&self) -> std::cell::Ref<'_, Node<LmdbMap>> {
        self.node.borrow()
    }

    /// The node, to have a new connection greeted. Not to be held across an await.
    pub fn node_mut(&self) -> std::cell::RefMut<'_, Node<LmdbMap>> {
        self.node.borrow_mut()
    }

    pub fn next_connection(&self) -> ConnectionId {
        self.next_connection.replace(self.next_connection.get() + 1)
    }

    /// Turns until the node has stopped: as it was asked to, for an error, or because it came to its end by itself.
    pub async fn run(&self) -> Result<()> {
        // The first turn needs no cause: there may be something to do from the start.
        self.turn()?;
        loop {
            self.wait().await;
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.turn()?;
            if let Some(end) = self.end() {
                return end;
            }
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let failed = self.failed.take();
            let is_failed = failed.is_some();
            self.failed.set(failed);
            if is_failed || self.tick_due.replace(false) || !self.inbox.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn turn(&self) -> Result<()> {
        let now = super::now(self.epoch);
        let inputs = std::mem::take(&mut *self.inbox.borrow_mut());
        let effects = {
            let mut node = self.node.borrow_mut();
            for _ in 0..self.take_ticks() {
                node.step(now, Input::Tick)?;
            }
            for input in inputs {
                node.step(now, input)?;
            }
            let effects = node.turn(now)?;
            let until_due = node.ticks_until_due();
            if until_due < self.ticks_asked.replace(until_due)
                && let Some(timer) = self.timer.take()
            {
                timer.wake();
            }
            effects
        };
        self.carry_out(effects);
        Ok(())
    }

    fn carry_out(&self, effects: Effects<LmdbMap>) {
        let Effects {
            replies,
            frames,
            datagrams,
            unlink,
            write,
            prepare,
            commit,
            retired,
            scans,
            transfers,
            identity_changed,
            targets_changed,
        } = effects;
        if let Some(write) = write {
            self.disk.submit(write);
        }
        for (raft_id, frame) in frames {
            if !self.links.send(raft_id, &frame) {
                self.post(Input::Unsent(raft_id));
            }
        }
        for (connection, frame) in replies {
            // One that is gone needs no answer.
            if let Some(client) = self.clients.borrow().get(&connection) {
                client.reply(frame);
            }
        }
        for (to, datagram) in datagrams {
            self.mesh.send(to, &datagram);
        }
        for raft_id in unlink {
            self.links.unlink(raft_id);
            self.clients.borrow().values().for_each(|client| client.close_if_from(raft_id));
        }
        if let Some(prepare) = prepare {
            self.threads.prepare(prepare);
        }
        if let Some(commit) = commit {
            self.threads.commit(commit);
        }
        for retired in retired {
            self.threads.drop_retired(retired);
        }
        for (token, scan) in scans {
            self.threads.scan(token, scan);
        }
        for job in transfers {
            self.threads.transfer(job);
        }
        if targets_changed {
            self.links.look();
        }
        if identity_changed {
            self.links.reconnect_all();
        }
    }

    /// Takes in what the threads tell.
    pub async fn receive_news(&self, mailbox: Mailbox<News>) {
        loop {
            for news in mailbox.receive().await {
                match news {
                    News::Input(input) => self.post(*input),
                    News::Failed(error) => self.fail(error),
                    News::Stop => {
                        log::info!("asked to stop");
                        self.stop_since.set(Some(Instant::now()));
                        self.post(Input::Stop);
                    }
                }
            }
        }
    }

    /// Has a turn happen whenever the node has something to do by itself. In between it sleeps: idle nodes cost little.
    pub async fn tick(&self) {
        loop {
            if !self.sleep_until_due().await {
                continue;
            }
            self.tick_due.set(true);
            self.wake();
            // The turn that this asks for runs before this task does again, and tells when the next is due.
            glommio::executor().yield_now().await;
        }
    }

    /// False if a turn has found something that is due earlier.
    async fn sleep_until_due(&self) -> bool {
        let asked = self.ticks_asked.get();
        let due = self.ticked_to.get() + self.fine_tick() * asked;
        let sleep = async {
            glommio::timer::Timer::new(due.saturating_duration_since(Instant::now())).await;
            true
        };
        let earlier = poll_fn(|cx| {
            if self.ticks_asked.get() < asked {
                return Poll::Ready(false);
            }
            self.timer.set(Some(cx.waker().clone()));
            Poll::Pending
        });
        future::or(sleep, earlier).await
    }

    /// The ticks that have passed since the last turn. What was missed because the reactor was held up is dropped, not
    /// replayed: a burst of ticks would look like a leader's long silence.
    fn take_ticks(&self) -> u32 {
        let fine_tick = self.fine_tick();
        let passed = (self.ticked_to.get().elapsed().as_nanos() / fine_tick.as_nanos()) as u32;
        self.ticked_to.set(self.ticked_to.get() + fine_tick * passed);
        // The timer was set for so many, or for a turn that others had asked for; one more is the timer's own lateness. A turn
        // that is as long as a tick is no stall.
        let ticks = passed.min(self.ticks_asked.get().max(FINE_TICKS) + 1);
        self.ticks_dropped.set(self.ticks_dropped.get() + u64::from(passed - ticks));
        ticks
    }

    fn fine_tick(&self) -> Duration {
        Duration::from_millis(self.settings.tick_ms) / FINE_TICKS
    }

    /// How the node ended, once it has: what it had to finish is finished, or took too long.
    fn end(&self) -> Option<Result<()>> {
        let node = self.node.borrow();
        if node.ended().is_some() && self.stop_since.get().is_none() {
            self.stop_since.set(Some(Instant::now()));
        }
        let since = self.stop_since.get()?;
        let sent = self.clients.borrow().values().all(|client| client.unsent_len() == 0);
        let is_over = sent && node.may_stop() || since.elapsed() >= STOP_WITHIN;
        is_over.then(|| match node.ended() {
            Some(why) => Err(Error::Environment(why.to_owned())),
            None => Ok(()),
        })
    }
}
