//! What real clusters promise their clients while they are broken: every answer is one that a single store could have
//! given, so that nothing acknowledged is lost, nothing is applied twice and nothing old is read. Clients record what
//! they asked and were answered while nodes are killed, stopped, cut off and out of disk, and the judge of
//! [`phalanx::sim::linearizability`] has the last word.

#[path = "../harness/mod.rs"]
mod harness;

mod clients;
mod recorder;
mod run;

use harness::{Cluster, Lab, Node, SmallDisk, exclusive};
use run::Run;
use rustix::process::Signal;

/// Half of what other tests take: more leaders in the same time.
const TICK_MS: u64 = harness::TICK_MS / 2;
const NODES: usize = 3;

#[test]
fn nodes_are_killed() {
    let _turn = exclusive();
    let mut run = Run::start(Cluster::new(NODES));
    while run.goes_on() {
        let victims = run.some_or_all();
        run.cluster.kill_at_once(victims.clone());
        run.linger(&victims);
        victims.iter().for_each(|i| run.cluster.nodes[*i].start());
        run.recover();
    }
    run.finish();
}

#[test]
fn nodes_are_stopped_and_go_on() {
    let _turn = exclusive();
    let mut run = Run::start(Cluster::new(NODES));
    while run.goes_on() {
        let victims = run.some_or_all();
        victims.iter().for_each(|i| run.cluster.nodes[*i].signal(Signal::STOP));
        run.linger(&victims);
        victims.iter().for_each(|i| run.cluster.nodes[*i].signal(Signal::CONT));
        run.recover();
    }
    run.finish();
}

#[test]
fn nodes_are_cut_off() {
    let Some(lab) = Lab::new(NODES) else { return };
    let _turn = exclusive();
    let mut nodes: Vec<Node> =
        (0..NODES).map(|host| lab.node(host, &format!("node-{}", host + 1))).collect();
    let seeds = nodes[0].gossip_address();
    for node in &mut nodes {
        node.set("SEEDS", seeds).set("EXPECT", NODES);
    }
    let mut run = Run::start(Cluster { nodes });
    while run.goes_on() {
        let victims = [run.one()];
        lab.cut(&victims);
        run.linger(&victims);
        lab.heal();
        run.recover();
    }
    run.finish();
}

#[test]
fn disks_fill_up() {
    let disks: Option<Vec<SmallDisk>> = (0..NODES).map(|_| SmallDisk::mount()).collect();
    let Some(disks) = disks else { return };
    let _turn = exclusive();
    let mut cluster = Cluster::new(NODES);
    for (node, disk) in cluster.nodes.iter_mut().zip(&disks) {
        node.set("DATA_DIR", disk.root().join("data").display());
    }
    let mut run = Run::start(cluster);
    while run.goes_on() {
        let victims = run.some_or_all();
        victims.iter().for_each(|i| disks[*i].fill(0));
        // They crash when they have told of it and take no more writes, or before, with writes under way.
        if run.toss() {
            run.wait_told(&victims, "no space");
        }
        let crashing = run.some_of(&victims);
        run.cluster.kill_at_once(crashing.clone());
        run.linger(&victims);
        victims.iter().for_each(|i| disks[*i].make_space());
        crashing.iter().for_each(|i| run.cluster.nodes[*i].start());
        run.recover();
    }
    run.finish();
}
