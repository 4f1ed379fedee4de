//! What happened in a run, as one number: the same seed gives the same run, and hence the same number, on any machine and
//! in any process.

/// A hash over all that happened. Not for strangers: who would forge it could.
#[derive(Debug, Clone, Copy)]
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Trace {
        Trace(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// Takes in a number.
    pub fn add(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    /// Takes in bytes.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        self.add(u64::from(crc32c::crc32c(bytes)));
    }

    /// The number so far.
    pub fn value(self) -> u64 {
        self.0
    }
}
