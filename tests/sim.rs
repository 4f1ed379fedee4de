//! The simulator's program, as a process of its own.

use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("sim runs")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_seed_gives_the_same_trace_in_another_process() {
    for seed in ["3", "8", "21"] {
        let runs = [(); 2].map(|()| sim(&["--seed", seed]));
        let [first, second] = runs.each_ref().map(told);
        assert!(runs[0].status.success(), "{first}");
        assert!(first.contains("trace "), "{first}");
        assert_eq!(first, second);
    }
}

#[test]
fn a_range_of_seeds_is_summed_up() {
    let output = sim(&["--seeds", "0..10"]);
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("10 runs") && told.contains(" 0 failed"), "{told}");
}

#[test]
fn what_cannot_be_run_is_said() {
    for args in [&[][..], &["--seed", "1", "--seeds", "0..2"], &["--seeds", "7"]] {
        let output = sim(args);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{args:?}");
    }
}
