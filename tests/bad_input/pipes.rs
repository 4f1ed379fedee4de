//! Whoever reads a program's output may stop: the program ends, and says nothing about it.

use std::process::Command;

#[test]
fn help_that_nobody_reads_to_its_end_is_no_failure() {
    for program in [
        env!("CARGO_BIN_EXE_phalanx"),
        env!("CARGO_BIN_EXE_phalanx-server"),
        env!("CARGO_BIN_EXE_sim"),
    ] {
        let (reader, writer) = std::io::pipe().expect("the system has pipes");
        drop(reader);
        let ended = Command::new(program).arg("--help").stdout(writer).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{program}: {} {said}", ended.status);
    }
}
