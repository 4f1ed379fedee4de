//! What a node takes that has a million keys: memory, and the processor while nobody asks anything.

use std::io;
use std::time::Duration;

use super::suite::{self, Figure, Metric};
use super::table::Line;
use crate::cluster::Cluster;
use crate::load::{self, Options};
use crate::target::Target;

/// What was written last is behind the node by then.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
const IDLE_FOR: Duration = Duration::from_secs(10);

/// By target.
#[derive(Default)]
pub struct Footprint {
    resident_mib: [Vec<f64>; 2],
    anonymous_mib: [Vec<f64>; 2],
    idle_percent: [Vec<f64>; 2],
}

impl Footprint {
    /// Fills a cluster, and looks at its leader.
    pub fn measure(&mut self, target: Target, cluster: &Cluster) -> io::Result<()> {
        let leader = Options::new(target, vec![cluster.leader().to_owned()]);
        load::run(&suite::fill_million(), &leader)?;
        std::thread::sleep(SETTLED_AFTER);
        self.idle_percent[target as usize].push(cluster.idle_cpu(IDLE_FOR)? * 100.0);
        let (resident, anonymous) = cluster.resident_mib()?;
        self.resident_mib[target as usize].push(resident);
        self.anonymous_mib[target as usize].push(anonymous);
        Ok(())
    }

    /// None if nothing was measured.
    pub fn lines(&self) -> Vec<Line> {
        let line = |metric, ahead, at_most, [phalanx, etcd]: &[Vec<f64>; 2]| Line {
            nodes: 3,
            part: "a million keys",
            figure: Figure { metric, ahead, above_floor: None, at_most },
            phalanx: phalanx.clone(),
            etcd: etcd.clone(),
            floor: None,
        };
        let lines = [
            line(Metric::Resident, Some(1.0), None, &self.resident_mib),
            line(Metric::Anonymous, None, None, &self.anonymous_mib),
            line(Metric::IdleCpu, None, Some(1.0), &self.idle_percent),
        ];
        lines.into_iter().filter(|it| !(it.phalanx.is_empty() && it.etcd.is_empty())).collect()
    }
}
