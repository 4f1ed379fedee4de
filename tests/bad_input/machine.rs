//! A kernel that does not give what the reactor needs: the server says what to do.

#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;

use phalanx::limits::{SEGMENT_LEN, VALUE_LEN_MAX};
use phalanx::wire::client::response;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::harness::Node;
use crate::wire::{Wire, put};
use crate::{assert_told, refused_already};

#[test]
fn io_uring_refused() {
    let mut node = Node::new("no-uring");
    let mut command = node.command();
    // SAFETY: between fork and exec it makes system calls and nothing else.
    unsafe { command.pre_exec(deny_io_uring) };
    node.spawn(command);
    let log = refused_already(&mut node, 1);
    assert_told(
        &log,
        &[
            "the kernel refuses io_uring",
            "Operation not permitted",
            "kernel.io_uring_disabled=0",
            "docker run --rm phalanx seccomp > seccomp.json",
            "--security-opt seccomp=seccomp.json",
        ],
    );
    assert!(!log.contains("panicked"), "{log}");
}

/// What Docker's default profile does: io_uring_setup fails with EPERM.
fn deny_io_uring() -> std::io::Result<()> {
    const SYSCALL_NUMBER_AT: u32 = 0;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, SYSCALL_NUMBER_AT),
        libc::sock_filter {
            jf: 1,
            ..statement(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                libc::SYS_io_uring_setup as u32,
            )
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter outlive the calls, which copy them.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A node whose process may have so much of something.
fn start_with_few(name: &str, resource: Resource, limit: u64) -> Node {
    let mut node = Node::new(name);
    let mut command = node.command();
    let few = Rlimit { current: Some(limit), maximum: Some(limit) };
    // SAFETY: between fork and exec it makes one system call and nothing else.
    unsafe { command.pre_exec(move || Ok(setrlimit(resource, few)?)) };
    node.spawn(command);
    node
}

#[test]
fn too_little_locked_memory() {
    let mut node = start_with_few("memlock", Resource::Memlock, 64 << 10);
    let log = refused_already(&mut node, 1);
    assert_told(
        &log,
        &[
            "the limit of locked memory is 64 KiB, and io_uring needs 512 KiB",
            "ulimit -l",
            "LimitMEMLOCK=",
            "--ulimit memlock=",
        ],
    );
}

#[test]
fn too_few_descriptors_to_start() {
    let mut node = start_with_few("few-descriptors", Resource::Nofile, 32);
    let log = refused_already(&mut node, 1);
    assert_told(
        &log,
        &["the limit of open files is 32, and a node needs 64", "ulimit -n", "LimitNOFILE="],
    );
}

#[test]
fn too_few_descriptors_are_no_reason_to_stop() {
    let node = start_with_few("descriptors", Resource::Nofile, 64);
    node.wait_ready();
    let mut before = Wire::greeted(&node.address);
    let crowd: Vec<_> =
        (0..100).map(|_| std::net::TcpStream::connect(&node.address).unwrap()).collect();
    node.wait_log(
        "cannot accept a connection: of 64 descriptors, the last 32 are for the node itself",
    );
    assert_eq!(node.health_page().0, 200, "HTTP has a few more");
    // The next segments of the log are such files.
    for number in 0..3 * SEGMENT_LEN / VALUE_LEN_MAX {
        let response = before.answer(number as u64, put("key", vec![b'v'; VALUE_LEN_MAX]));
        let is_done = matches!(response.result, Some(response::Result::Txn(_)));
        assert!(is_done, "{response:?}");
    }
    drop(crowd);
    crate::assert_serves(&node);
}
