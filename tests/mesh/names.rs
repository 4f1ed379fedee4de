//! A name that leads to another node for a moment, as that of a container does whose address was given to another one: the
//! node that is wanted is looked for again.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::{Cluster, Node};
use crate::wait_roles;

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
    doors[0].lead_to(&cluster.nodes[0]);
    // Node 1 cannot be reached at its own address yet, but at that of node 2.
    doors[2].lead_to(&cluster.nodes[1]);
    cluster.nodes[1].start();
    cluster.nodes[0].start();
    let met = format!("node-1 answers there, whose address is {}", doors[1].address);
    cluster.nodes[0].wait_log(&met);
    doors[1].lead_to(&cluster.nodes[1]);
    doors[2].lead_to(&cluster.nodes[2]);
    cluster.nodes[2].start();
    for number in [1, 2] {
        cluster.nodes[0].wait_log(&format!("connected to node-{number} at"));
    }
    wait_roles(&cluster, 3, 0);
}
