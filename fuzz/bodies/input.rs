//! An input, read from its front. It never ends: past its last byte there are zeros, so that every input means
//! something and a mutation that cuts one does not make it void.

/// What is left of an input.
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    /// Whether there are only zeros to come.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes, or what is left.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// Bytes behind their length, of which `bits` count.
    pub fn sized(&mut self, bits: u32) -> &'a [u8] {
        let len = usize::from(self.u16()) & ((1 << bits) - 1);
        self.bytes(len)
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next two, little endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next eight, little endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `end`, which is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.u8()) % end
    }

    fn array<const LEN: usize>(&mut self) -> [u8; LEN] {
        let taken = self.bytes(LEN);
        let mut array = [0; LEN];
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}
