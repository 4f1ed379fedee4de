//! How many chunks of a snapshot may be on their way to its receiver at once.
//!
//! Chunks share the connection with heartbeats, and on a slow path a full window would keep these waiting for longer than a
//! follower waits for a leader. So the receiver goes by the delay, in the manner of LEDBAT (RFC 6817): it asks for more while
//! chunks come about as fast as they ever did, and for half when they queue up somewhere, be it in the network or at the
//! sender's disk.
//!
//! Invariants:
//! - The window is 1 at least and [`SNAPSHOT_WINDOW`] at most, and is judged once in the time that a window takes.
//! - A chunk that was asked for twice is not timed: which of the requests it answers, nobody knows.

use std::ops::Range;
use std::time::Duration;

use crate::limits::{SNAPSHOT_QUEUING_MAX, SNAPSHOT_WINDOW, SNAPSHOT_WINDOW_FIRST};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Window {
    chunks: u64,
    /// The shortest time from the request of a chunk until it came.
    shortest: Duration,
    /// The chunk that is timed, and when it was asked for.
    timed: Option<(u64, Duration)>,
    /// Chunks below this number were asked for.
    asked: u64,
}

impl Default for Window {
    fn default() -> Window {
        // Chunk 0 has no rows: how fast it comes says nothing.
        Window { chunks: SNAPSHOT_WINDOW_FIRST, shortest: Duration::MAX, timed: None, asked: 1 }
    }
}

impl Window {
    /// How many may be on their way.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// These chunks are asked for.
    pub fn asked(&mut self, now: Duration, chunks: Range<u64>) {
        // The last, behind which nothing of the window is.
        if self.timed.is_none() && self.asked < chunks.end {
            self.timed = Some((chunks.end - 1, now));
        }
        self.asked = self.asked.max(chunks.end);
    }

    /// A chunk came.
    pub fn came(&mut self, now: Duration, number: u64) {
        let Some((_, asked)) = self.timed.take_if(|(timed, _)| *timed == number) else { return };
        let took = now - asked;
        // Behind one alone nothing of ours queues up: that is how long the path takes by now.
        self.shortest = if self.chunks == 1 { took } else { self.shortest.min(took) };
        self.chunks = match took <= self.shortest + SNAPSHOT_QUEUING_MAX {
            true => SNAPSHOT_WINDOW.min(self.chunks + 1),
            false => self.halved(),
        };
    }

    /// What is on its way counts as lost.
    pub fn lost(&mut self) {
        self.timed = None;
        self.chunks = self.halved();
    }

    fn halved(&self) -> u64 {
        (self.chunks / 2).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that carries one chunk after the other, each in `chunk_ms`, and takes `delay_ms` besides, there and back.
    struct Path {
        delay_ms: u64,
        chunk_ms: u64,
    }

    /// Chunks that come one after the other, each being answered by what the window has room for. Gives how large the
    /// window was after each.
    fn transfer(window: &mut Window, chunks: Range<u64>, path: &Path) -> Vec<u64> {
        let mut arrivals = std::collections::VecDeque::new();
        let (mut now_ms, mut free_ms, mut asked) = (0, 0, chunks.start);
        let mut sizes = Vec::new();
        for number in chunks {
            let until = asked.max(number + window.chunks());
            window.asked(Duration::from_millis(now_ms), asked..until);
            for asked in asked..until {
                // Chunk 0 has no rows.
                let chunk_ms = if asked == 0 { 0 } else { path.chunk_ms };
                free_ms = free_ms.max(now_ms + path.delay_ms) + chunk_ms;
                arrivals.push_back(free_ms);
            }
            asked = until;
            now_ms = arrivals.pop_front().expect("one is on its way at least");
            window.came(Duration::from_millis(now_ms), number);
            sizes.push(window.chunks());
        }
        sizes
    }

    #[test]
    fn a_fast_path_gets_the_whole_window() {
        let mut window = Window::default();
        let path = Path { delay_ms: 80, chunk_ms: 2 };
        let sizes = transfer(&mut window, 0..400, &path);
        assert_eq!(window.chunks(), SNAPSHOT_WINDOW);
        assert!(sizes.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1));
        // By one in the time that a window takes.
        assert!(sizes[20] <= 8, "{sizes:?}");
    }

    #[test]
    fn on_a_slow_path_no_more_queues_up_than_may() {
        for (delay_ms, chunk_ms) in [(1, 20), (50, 40), (10, 99), (200, 30)] {
            let sizes = transfer(&mut Window::default(), 0..400, &Path { delay_ms, chunk_ms });
            let max = sizes.into_iter().max().expect("there were some");
            // Those that the path holds, those that may queue up, and two before that is seen.
            let bound = 1 + (delay_ms + SNAPSHOT_QUEUING_MAX.as_millis() as u64) / chunk_ms + 2;
            assert!(max <= bound, "{max} of {bound} on a path of {delay_ms} and {chunk_ms} ms");
        }
    }

    #[test]
    fn one_chunk_is_on_its_way_where_that_is_all_that_the_path_carries() {
        let mut window = Window::default();
        let sizes = transfer(&mut window, 0..100, &Path { delay_ms: 20, chunk_ms: 300 });
        assert!(sizes[4..].iter().all(|chunks| *chunks <= 2), "{sizes:?}");
        assert!(sizes.contains(&1), "{sizes:?}");
    }

    #[test]
    fn what_is_lost_halves_the_window_and_is_not_timed() {
        let mut window = Window::default();
        transfer(&mut window, 0..400, &Path { delay_ms: 80, chunk_ms: 2 });
        let asked = window.asked;
        window.lost();
        assert_eq!(window.chunks(), SNAPSHOT_WINDOW / 2);
        let shortest = window.shortest;
        // Asked for anew, it comes at once: as the answer to what was asked before.
        let now = Duration::from_secs(100);
        window.asked(now, asked - 8..asked);
        (asked - 8..asked).for_each(|number| window.came(now, number));
        assert_eq!((window.chunks(), window.shortest), (SNAPSHOT_WINDOW / 2, shortest));
        window.asked(now, asked..asked + 1);
        window.came(now + shortest, asked);
        assert_eq!(window.chunks(), SNAPSHOT_WINDOW / 2 + 1);
        (0..10).for_each(|_| window.lost());
        assert_eq!(window.chunks(), 1);
    }
}
