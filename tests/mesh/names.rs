//! A name that leads to another node for a moment, as that of a container does whose address was given to another one: the
//! node that is wanted is looked for again.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::{Cluster, Node, SOON, wait_until};
use crate::{assert_serves, wait_roles};

/// An address that leads somewhere else when it is told to, or nowhere. What was connected before stays as it is.
struct Door {
    address: String,
    leads_to: Arc<Mutex<Option<String>>>,
}

impl Door {
    fn new() -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let leads_to = Arc::new(Mutex::new(None));
        let target: Arc<Mutex<Option<String>>> = leads_to.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let target = target.lock().unwrap().clone();
                if let Some(there) = target.and_then(|target| TcpStream::connect(target).ok()) {
                    pass_on(&stream, &there);
                    pass_on(&there, &stream);
                }
            }
        });
        Door { address, leads_to }
    }

    fn lead_to(&self, node: &Node) {
        *self.leads_to.lock().unwrap() = Some(node.address.clone());
    }

    fn lead_nowhere(&self) {
        *self.leads_to.lock().unwrap() = None;
    }
}

fn pass_on(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn a_node_that_is_met_at_the_address_of_another_keeps_nobody_out() {
    let doors = [Door::new(), Door::new(), Door::new()];
    let mut cluster = Cluster { nodes: Vec::new() };
    let address = |number: usize| format!("node-{number}@{}", doors[number].address);
    for number in 0..3 {
        let mut node = Node::new(&format!("node-{number}"));
        node.set("PEERS", (0..3).map(address).collect::<Vec<_>>().join(","));
        cluster.nodes.push(node);
    }
    (0..3).for_each(|number| doors[number].lead_to(&cluster.nodes[number]));
    cluster.nodes.iter_mut().for_each(Node::start);
    wait_roles(&cluster, 3, 0);
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    // Node 1 comes back, and cannot be reached at its own address yet, but at that of node 2.
    doors[1].lead_nowhere();
    doors[2].lead_to(&cluster.nodes[1]);
    cluster.nodes[1].start();
    let met = format!("node-1 answers there, whose address is {}", doors[1].address);
    cluster.nodes[0].wait_log(&met);
    let connected = |node: &Node, number: usize| {
        node.log().matches(&format!("connected to node-{number} at")).count()
    };
    let before = [1, 2].map(|number| connected(&cluster.nodes[0], number));
    doors[1].lead_to(&cluster.nodes[1]);
    doors[2].lead_to(&cluster.nodes[2]);
    cluster.nodes[2].start();
    for (number, before) in [1, 2].into_iter().zip(before) {
        let what = format!("node-0 is connected to node-{number} again");
        wait_until(&what, SOON, || connected(&cluster.nodes[0], number) > before);
    }
    wait_roles(&cluster, 3, 0);
}

/// What PEERS calls a node need not be its name.
#[test]
fn an_alias_leads_to_whoever_answers_there() {
    let mut cluster = Cluster { nodes: Vec::new() };
    let mut nodes = [Node::new("node-0"), Node::new("node-1")];
    // At what it advertises, node 1 is out of reach.
    let nowhere = Door::new();
    nodes[1].set("ADVERTISE_ADDR", &nowhere.address);
    nodes[0].set("PEERS", format!("alias@{}", nodes[1].address));
    nodes[1].set("PEERS", format!("node-0@{}", nodes[0].address));
    cluster.nodes.extend(nodes);
    cluster.nodes.iter_mut().for_each(Node::start);
    wait_roles(&cluster, 1, 1);
    // It is a member now, and wanted where it cannot be reached.
    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    cluster.nodes[1].wait_ready();
    assert_serves(&cluster.nodes[1]);
}
