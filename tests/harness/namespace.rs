//! A network of its own, for tests that take default ports or cut cables: a network namespace of the kernel's. It has no
//! name: it is held by a descriptor, and is gone with it and the last process inside, however the test ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

#[derive(Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// A network with nothing but its loopback interface. `None`, and that said out loud, where the system gives none: it
    /// takes root.
    pub fn new() -> Option<Namespace> {
        let made = thread::scope(|scope| scope.spawn(Namespace::make).join());
        match made.unwrap_or_else(|panic| resume_unwind(panic)) {
            Ok(file) => {
                let namespace = Namespace(Arc::new(file));
                namespace.ip("link set lo up");
                Some(namespace)
            }
            Err(e) => {
                let test = thread::current().name().unwrap_or_default().to_owned();
                // Not by a macro: what those print is shown of failed tests only.
                let _ = writeln!(
                    io::stderr(),
                    "{test}: LEFT OUT is what takes a network of its own, which takes root: {e}"
                );
                None
            }
        }
    }

    /// Leaves the thread in a namespace that is new.
    #[allow(unsafe_code)]
    fn make() -> io::Result<File> {
        // SAFETY: it takes nothing from this thread but its network, and the thread ends here.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        File::open("/proc/thread-self/ns/net")
    }

    /// Does something inside. Sockets, threads and processes that are made there stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("who could make it may enter it");
            work()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs `ip` of iproute2 inside.
    pub fn ip(&self, args: &str) {
        let run = || Command::new("ip").args(args.split(' ')).output();
        let output = self.enter(run).expect("root has `ip`, of the package iproute2");
        assert!(output.status.success(), "ip {args}: {output:?}");
    }

    /// What `ip` takes for its name, while this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}
