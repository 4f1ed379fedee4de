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
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = Script { folder, namespace };
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
