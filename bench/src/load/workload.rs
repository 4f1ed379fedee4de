//! What is asked for: which operations in what proportion, on which keys, by how many clients, and for how long.
//!
//! Pure: chance comes in as a generator, so that a seed repeats a run's requests.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Put,
    /// Linearizable.
    Get,
    /// Of whatever the asked node has.
    StaleGet,
}

impl Operation {
    pub const ALL: [Operation; 3] = [Operation::Put, Operation::Get, Operation::StaleGet];

    pub fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::StaleGet => "stale-get",
        }
    }

    fn parse(name: &str) -> Result<Operation, String> {
        let found = Operation::ALL.into_iter().find(|operation| operation.name() == name);
        found.ok_or_else(|| format!("{name:?} is no operation: put, get or stale-get"))
    }
}

/// How often each operation is asked for, relative to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(Vec<(Operation, u32)>);

impl Mix {
    pub fn only(operation: Operation) -> Mix {
        Mix(vec![(operation, 1)])
    }

    /// Reads `put=10,get=90`, or the name of one operation.
    pub fn parse(text: &str) -> Result<Mix, String> {
        let part = |part: &str| match part.split_once('=') {
            None => Ok((Operation::parse(part)?, 1)),
            Some((name, weight)) => match weight.parse() {
                Ok(weight) => Ok((Operation::parse(name)?, weight)),
                Err(_) => Err(format!("{weight:?} in {text:?} is no whole number")),
            },
        };
        let parts = text.split(',').map(part).collect::<Result<Vec<_>, String>>()?;
        match parts.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>() {
            1..=1_000_000 => Ok(Mix(parts)),
            sum => {
                Err(format!("the weights of {text:?} add up to {sum}: 1 to 1,000,000 is allowed"))
            }
        }
    }

    pub fn draw(&self, rng: &mut Rng) -> Operation {
        if let [(operation, _)] = self.0[..] {
            return operation;
        }
        let sum: u32 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.u32(..sum);
        for (operation, weight) in &self.0 {
            match left.checked_sub(*weight) {
                None => return *operation,
                Some(rest) => left = rest,
            }
        }
        unreachable!("the draw is below the sum of the weights")
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [(operation, _)] = self.0[..] {
            return f.write_str(operation.name());
        }
        let parts =
            self.0.iter().map(|(operation, weight)| format!("{}={weight}", operation.name()));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

/// Which keys are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    Uniform,
    /// The key of rank r is drawn in proportion to 1 / r^0.99, as YCSB does.
    Zipf,
    /// One after the other, from the first again when all had their turn.
    Sequential,
}

impl Distribution {
    pub fn parse(name: &str) -> Result<Distribution, String> {
        match name {
            "uniform" => Ok(Distribution::Uniform),
            "zipf" => Ok(Distribution::Zipf),
            "sequential" => Ok(Distribution::Sequential),
            _ => Err(format!("{name:?} is no distribution: uniform, zipf or sequential")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Distribution::Uniform => "uniform",
            Distribution::Zipf => "zipf",
            Distribution::Sequential => "sequential",
        }
    }
}

const ZIPF_EXPONENT: f64 = 0.99;

/// Draws the numbers of keys.
#[derive(Debug, Clone)]
pub struct Keys {
    keys: u64,
    distribution: Distribution,
    next: u64,
    /// The sum of all weights; zipf only.
    zeta: f64,
}

impl Keys {
    pub fn new(keys: u64, distribution: Distribution) -> Keys {
        assert!(keys > 0, "there is a key to ask for");
        let zeta = match distribution {
            Distribution::Zipf => (1..=keys).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)).sum(),
            _ => 0.0,
        };
        Keys { keys, distribution, next: 0, zeta }
    }

    pub fn draw(&mut self, rng: &mut Rng) -> u64 {
        match self.distribution {
            Distribution::Uniform => rng.u64(..self.keys),
            Distribution::Zipf => self.zipf(rng.f64()),
            Distribution::Sequential => {
                let key = self.next % self.keys;
                self.next += 1;
                key
            }
        }
    }

    /// The rank at which the weights reach that share of their sum: Gray's approximation, as in YCSB.
    fn zipf(&self, share: f64) -> u64 {
        let theta = ZIPF_EXPONENT;
        let keys = self.keys as f64;
        let at = share * self.zeta;
        let second = 0.5_f64.powf(theta);
        if at < 1.0 {
            return 0;
        }
        if at < 1.0 + second {
            return 1.min(self.keys - 1);
        }
        let eta = (1.0 - (2.0 / keys).powf(1.0 - theta)) / (1.0 - (1.0 + second) / self.zeta);
        let rank = keys * (eta * share - eta + 1.0).powf(1.0 / (1.0 - theta));
        (rank as u64).min(self.keys - 1)
    }
}

pub const KEY_LEN: usize = 16;

/// `key-` and twelve digits.
pub fn key(mut number: u64) -> [u8; KEY_LEN] {
    let mut key = *b"key-000000000000";
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    key
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each slot sends the next request when the last one was answered.
    Closed,
    /// So many requests a second, whatever becomes of them.
    Open { rate_per_s: f64 },
}

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// First the warm-up, which is not counted.
    Time { warm_up: Duration, counted: Duration },
    /// So many requests, each of another key, in order. All of them count.
    Count(u64),
}

/// A workload.
#[derive(Debug, Clone)]
pub struct Workload {
    pub mix: Mix,
    /// Connections.
    pub clients: usize,
    /// Requests outstanding on each.
    pub depth: usize,
    pub pace: Pace,
    pub extent: Extent,
    pub keys: u64,
    pub distribution: Distribution,
    pub value_len_bytes: usize,
}

impl Workload {
    pub fn to_json(&self) -> Value {
        let rate = match self.pace {
            Pace::Closed => Value::Null,
            Pace::Open { rate_per_s } => json!(rate_per_s),
        };
        let (warm_up_s, counted_s, count) = match self.extent {
            Extent::Time { warm_up, counted } => {
                (json!(warm_up.as_secs_f64()), json!(counted.as_secs_f64()), Value::Null)
            }
            Extent::Count(count) => (Value::Null, Value::Null, json!(count)),
        };
        json!({
            "mix": self.mix.to_string(), "clients": self.clients, "depth": self.depth, "rate_per_s": rate,
            "warm_up_s": warm_up_s, "seconds": counted_s, "count": count, "keys": self.keys,
            "distribution": self.distribution.name(), "value_len": self.value_len_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_read_and_drawn_in_proportion() {
        let mix = Mix::parse("put=10,get=90").unwrap();
        assert_eq!(mix.to_string(), "put=10,get=90");
        let mut rng = Rng::with_seed(1);
        let puts = (0..10_000).filter(|_| mix.draw(&mut rng) == Operation::Put).count();
        assert!((900..1_100).contains(&puts), "{puts}");
        assert_eq!(Mix::parse("stale-get").unwrap(), Mix::only(Operation::StaleGet));
        for wrong in ["", "pat", "put=", "put=-1", "put=0", "put=1,,get=1", "put=4000000000,get=1"]
        {
            assert!(Mix::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn keys_stay_in_range_and_follow_their_distribution() {
        let mut rng = Rng::with_seed(2);
        let mut draws = |keys, distribution| {
            let mut keys = Keys::new(keys, distribution);
            (0..20_000).map(|_| keys.draw(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draws(3, Distribution::Sequential)[..5], [0, 1, 2, 0, 1]);
        let uniform = draws(10, Distribution::Uniform);
        assert!((0..10).all(|key| uniform.iter().filter(|it| **it == key).count() > 1_700));
        let zipf = draws(1_000, Distribution::Zipf);
        let of = |key| zipf.iter().filter(|it| **it == key).count() as f64 / zipf.len() as f64;
        // The weights of 1,000 keys add up to 7.729.
        assert!((of(0) - 0.1294).abs() < 0.01, "{}", of(0));
        assert!((of(1) - 0.0651).abs() < 0.01, "{}", of(1));
        assert!(zipf.iter().all(|key| *key < 1_000));
        for keys in 1..4 {
            assert!(draws(keys, Distribution::Zipf).iter().all(|key| *key < keys));
        }
    }

    #[test]
    fn keys_sort_as_their_numbers() {
        assert_eq!(&key(0), b"key-000000000000");
        assert_eq!(&key(120_034), b"key-000000120034");
    }
}
