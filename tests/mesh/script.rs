//! scripts/local-mesh.sh: a mesh on one machine for those who do not want five terminals.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{Namespace, SOON, http, wait_until};

struct Script {
    folder: TempDir,
    namespace: Namespace,
}

impl Script {
    fn new(namespace: Namespace) -> Script {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Script { folder, namespace }
    }

    fn run(&self, args: &[&str]) -> Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/local-mesh.sh");
        let binaries = Path::new(env!("CARGO_BIN_EXE_phalanx-server")).parent().unwrap();
        let mut command = Command::new(script);
        let command = command.args(args).current_dir(&self.folder).env("PHALANX_BIN_DIR", binaries);
        self.namespace.enter(|| command.output()).expect("the script can be started")
    }

    /// Runs it, and gives what it prints.
    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs it, and gives what it says of why it does not do that.
    #[track_caller]
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// How many of the nodes' pages answer.
    fn serving(&self) -> usize {
        let answers = |number: &usize| {
            let page = || http::get(&format!("127.0.0.1:808{number}"), "/health");
            self.namespace.enter(page).is_ok()
        };
        (0..5).filter(answers).count()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

#[test]
fn the_script_starts_a_mesh_and_ends_it() {
    let Some(namespace) = Namespace::new() else { return };
    let script = Script::new(namespace);
    let told = script.done(&["up"]);
    for told_too in ["node-0", "node-4", "phalanx put", "phalanx get", "down"] {
        assert!(told.contains(told_too), "not told: {told_too:?}. Told was: {told}");
    }
    assert_eq!(script.serving(), 5);
    wait_until("all are alive", SOON, || script.done(&["status"]).matches("alive").count() == 5);

    // What runs is not started a second time.
    let again = script.run(&["up"]);
    let told = [again.stdout, again.stderr].concat();
    assert!(String::from_utf8_lossy(&told).contains("run"), "{}", String::from_utf8_lossy(&told));

    script.done(&["down"]);
    assert_eq!(script.serving(), 0);
    assert!(script.folder.path().join("data/0").exists(), "what was written is kept");

    // The data is there still, and the mesh of it comes up again.
    script.done(&["up"]);
    assert_eq!(script.serving(), 5);
}

#[test]
fn the_script_does_not_take_another_mesh_for_its_own() {
    let Some(namespace) = Namespace::new() else { return };
    let first = Script::new(namespace.clone());
    first.done(&["up", "1"]);

    // The node at that address has the name that is looked for, and leads a cluster of as many as are asked for.
    let second = Script::new(namespace);
    let told = second.refused(&["up", "1"]);
    assert!(told.contains("127.0.0.1:9000, which is for node-0, is taken by another"), "{told}");
    // None of those that could be started was: they would join the first.
    second.refused(&["up", "3"]);
    assert!(!second.folder.path().join("data").exists(), "nothing was started");
    let told = second.refused(&["status"]);
    assert!(told.contains("no node of ./data runs"), "{told}");
    let told = second.done(&["down"]);
    assert!(told.contains("no node of ./data runs"), "{told}");
    assert_eq!(first.serving(), 1, "the first goes on");
}

#[test]
fn the_script_leaves_out_no_node_that_may_be_a_member() {
    let Some(namespace) = Namespace::new() else { return };
    let script = Script::new(namespace);
    script.done(&["up", "2"]);
    script.done(&["down"]);
    let told = script.refused(&["up", "1"]);
    for told_too in ["data of node-1", "up 2", "down --wipe", "rm -r ./data/1"] {
        assert!(told.contains(told_too), "not told: {told_too:?}. Told was: {told}");
    }
    assert_eq!(script.serving(), 0, "nothing was started");
    script.done(&["down", "--wipe"]);
    script.done(&["up", "1"]);
}
