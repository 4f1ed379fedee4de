//! What came of a run: latency as histograms, over time, and what was refused.
//!
//! Pure: times come in as durations since the run began.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::workload::Operation;

/// Longer latencies count as this one.
const LATENCY_MAX_NS: u64 = 120_000_000_000;
/// Intervals of the timeline: about three hours of seconds. What comes later is not in it.
const INTERVALS_MAX: usize = 10_000;

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(10, LATENCY_MAX_NS, 3).expect("the bounds are constants")
}

pub fn ms(latency_ns: u64) -> f64 {
    latency_ns as f64 / 1e6
}

pub fn quantile_ms(latency_ns: &Histogram<u64>, quantile: f64) -> f64 {
    ms(latency_ns.value_at_quantile(quantile))
}

/// What was answered in one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub begin: Duration,
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Latency by the time of the answer.
#[derive(Debug)]
struct Timeline {
    interval: Duration,
    rows: Vec<Interval>,
    current: Histogram<u64>,
}

impl Timeline {
    fn record(&mut self, at: Duration, latency_ns: u64) {
        self.close_until((at.as_nanos() / self.interval.as_nanos()) as usize);
        self.current.saturating_record(latency_ns);
    }

    /// Intervals in which nothing was answered have a row as well: a stall is to be seen.
    fn close_until(&mut self, number: usize) {
        while self.rows.len() < number.min(INTERVALS_MAX) {
            let quantile = |quantile| quantile_ms(&self.current, quantile);
            self.rows.push(Interval {
                begin: self.interval * self.rows.len() as u32,
                count: self.current.len(),
                p50_ms: quantile(0.5),
                p99_ms: quantile(0.99),
                max_ms: ms(self.current.max()),
            });
            self.current.reset();
        }
    }
}

/// Takes down what is answered while a run goes on.
#[derive(Debug)]
pub struct Recorder {
    /// Answers to requests from before do not count.
    count_from: Duration,
    latency_ns: [Histogram<u64>; 3],
    timeline: Timeline,
    last_answer: Option<Duration>,
    longest_gap: Duration,
    pub refused: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
    pub unsent: u64,
}

impl Recorder {
    pub fn new(count_from: Duration, interval: Duration) -> Recorder {
        assert!(!interval.is_zero(), "an interval lasts");
        Recorder {
            count_from,
            latency_ns: Operation::ALL.map(|_| histogram()),
            timeline: Timeline { interval, rows: Vec::new(), current: histogram() },
            last_answer: None,
            longest_gap: Duration::ZERO,
            refused: 0,
            failed: 0,
            first_failure: None,
            unsent: 0,
        }
    }

    /// A request that was meant to be sent at `begun` was answered at `at`.
    pub fn answered(&mut self, operation: Operation, begun: Duration, at: Duration) {
        if begun < self.count_from {
            return;
        }
        let latency_ns = at.saturating_sub(begun).as_nanos() as u64;
        self.latency_ns[operation as usize].saturating_record(latency_ns);
        self.timeline.record(at - self.count_from, latency_ns);
        let last = self.last_answer.replace(at).unwrap_or(self.count_from);
        self.longest_gap = self.longest_gap.max(at.saturating_sub(last));
    }

    pub fn failed(&mut self, why: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(why);
    }

    pub fn count(&self) -> u64 {
        self.latency_ns.iter().map(Histogram::len).sum()
    }

    pub fn finish(mut self, elapsed: Duration, generator_cpu: Duration) -> Outcome {
        let rows = (elapsed.as_nanos() / self.timeline.interval.as_nanos()) as usize;
        self.timeline.close_until(rows);
        let mut all = histogram();
        for one in &self.latency_ns {
            all.add(one).expect("all have the same bounds");
        }
        let end = self.count_from + elapsed;
        let last_gap = end.saturating_sub(self.last_answer.unwrap_or(self.count_from));
        Outcome {
            latency_ns: all,
            by_operation_ns: self.latency_ns,
            elapsed,
            generator_cpu,
            timeline: self.timeline.rows,
            longest_gap: self.longest_gap.max(last_gap),
            refused: self.refused,
            failed: self.failed,
            first_failure: self.first_failure,
            unsent: self.unsent,
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub latency_ns: Histogram<u64>,
    by_operation_ns: [Histogram<u64>; 3],
    pub elapsed: Duration,
    /// Processor time of this program.
    generator_cpu: Duration,
    timeline: Vec<Interval>,
    /// The longest time without any answer.
    longest_gap: Duration,
    /// As overloaded.
    pub refused: u64,
    /// Answered with an error, or not at all.
    pub failed: u64,
    pub first_failure: Option<String>,
    /// Open loop: due, and given up because no slot became free. They count in no latency.
    pub unsent: u64,
}

impl Outcome {
    pub fn throughput_per_s(&self) -> f64 {
        self.latency_ns.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latency_ns, quantile)
    }

    /// Adds another round of the same workload. The timeline stays that of the first.
    pub fn add(&mut self, other: &Outcome) {
        self.latency_ns.add(&other.latency_ns).expect("all have the same bounds");
        for (own, others) in self.by_operation_ns.iter_mut().zip(&other.by_operation_ns) {
            own.add(others).expect("all have the same bounds");
        }
        self.elapsed += other.elapsed;
        self.generator_cpu += other.generator_cpu;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.refused += other.refused;
        self.failed += other.failed;
        self.unsent += other.unsent;
    }

    pub fn line(&self) -> String {
        let line = latency_line(&self.latency_ns);
        format!("{line}  {:>9.0}/s", self.throughput_per_s())
    }

    /// The text for a person, line by line.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("all        {}", self.line())];
        let parts: Vec<_> = self.parts().collect();
        if parts.len() > 1 {
            lines.extend(
                parts.iter().map(|(it, ns)| format!("{:<9}  {}", it.name(), latency_line(ns))),
            );
        }
        lines.push(format!(
            "{} answered in {:.2} s; the generator took {:.1} us of processor time for each",
            self.latency_ns.len(),
            self.elapsed.as_secs_f64(),
            self.generator_us()
        ));
        lines.push(format!(
            "longest time without an answer: {:.0} ms",
            self.longest_gap.as_secs_f64() * 1e3
        ));
        for (count, what) in [
            (self.refused, "refused as overloaded"),
            (self.failed, "failed"),
            (self.unsent, "due and never sent: no slot was free in time"),
        ] {
            if count > 0 {
                lines.push(format!("{count} {what}"));
            }
        }
        lines.extend(self.first_failure.iter().map(|why| format!("the first failure: {why}")));
        lines.join("\n")
    }

    fn parts(&self) -> impl Iterator<Item = (Operation, &Histogram<u64>)> {
        let parts = Operation::ALL.into_iter().zip(&self.by_operation_ns);
        parts.filter(|(_, latency_ns)| !latency_ns.is_empty())
    }

    fn generator_us(&self) -> f64 {
        self.generator_cpu.as_secs_f64() * 1e6 / self.latency_ns.len().max(1) as f64
    }

    pub fn to_json(&self) -> Value {
        let mut json = summary(&self.latency_ns);
        let timeline = self.timeline.iter().map(|row| {
            json!({
                "at_s": row.begin.as_secs_f64(), "count": row.count,
                "p50_ms": row.p50_ms, "p99_ms": row.p99_ms, "max_ms": row.max_ms,
            })
        });
        let parts = self.parts().map(|(it, ns)| (it.name().to_owned(), summary(ns).into()));
        json.extend([
            ("throughput_per_s".to_owned(), json!(self.throughput_per_s())),
            ("elapsed_s".to_owned(), json!(self.elapsed.as_secs_f64())),
            ("generator_cpu_us".to_owned(), json!(self.generator_us())),
            ("longest_gap_ms".to_owned(), json!(self.longest_gap.as_secs_f64() * 1e3)),
            ("refused".to_owned(), json!(self.refused)),
            ("failed".to_owned(), json!(self.failed)),
            ("first_failure".to_owned(), json!(self.first_failure)),
            ("unsent".to_owned(), json!(self.unsent)),
            ("operations".to_owned(), parts.collect::<Map<_, _>>().into()),
            ("percentiles".to_owned(), json!(percentile_rows(&self.latency_ns))),
            ("timeline".to_owned(), timeline.collect::<Vec<_>>().into()),
        ]);
        json.into()
    }
}

fn latency_line(latency_ns: &Histogram<u64>) -> String {
    let ms = |quantile| quantile_ms(latency_ns, quantile);
    format!(
        "p50 {:>8.3} ms  p99 {:>8.3} ms  p99.9 {:>8.3} ms  max {:>8.3} ms",
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    )
}

fn summary(latency_ns: &Histogram<u64>) -> Map<String, Value> {
    let quantile =
        |name: &str, quantile| (name.to_owned(), json!(quantile_ms(latency_ns, quantile)));
    Map::from_iter([
        ("count".to_owned(), json!(latency_ns.len())),
        ("mean_ms".to_owned(), json!(latency_ns.mean() / 1e6)),
        quantile("p50_ms", 0.5),
        quantile("p90_ms", 0.9),
        quantile("p99_ms", 0.99),
        quantile("p999_ms", 0.999),
        quantile("max_ms", 1.0),
    ])
}

/// (quantile, milliseconds), evenly spaced on an axis of 1 / (1 - quantile): ten for each factor of ten, as far as
/// there are values to tell one from the next.
pub fn percentile_rows(latency_ns: &Histogram<u64>) -> Vec<(f64, f64)> {
    const PER_DECADE: i32 = 10;
    let decades = (latency_ns.len().max(1) as f64).log10();
    let last = (decades * f64::from(PER_DECADE)).floor() as i32;
    let quantiles =
        (0..=last).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(PER_DECADE)));
    quantiles.map(|quantile| (quantile, quantile_ms(latency_ns, quantile))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn recorder() -> Recorder {
        Recorder::new(at(1_000), at(100))
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let mut recorder = recorder();
        recorder.answered(Operation::Put, at(999), at(1_500));
        recorder.answered(Operation::Put, at(1_000), at(1_002));
        let outcome = recorder.finish(at(500), Duration::ZERO);
        assert_eq!(outcome.latency_ns.len(), 1);
        assert!((outcome.quantile_ms(0.5) - 2.0).abs() < 0.01);
        assert!((outcome.throughput_per_s() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_stall_is_a_row_without_answers_and_a_gap() {
        let mut recorder = recorder();
        recorder.answered(Operation::Put, at(1_010), at(1_020));
        recorder.answered(Operation::Get, at(1_030), at(1_350));
        let outcome = recorder.finish(at(400), Duration::ZERO);
        assert_eq!(outcome.timeline.iter().map(|row| row.count).collect::<Vec<_>>(), [1, 0, 0, 1]);
        assert_eq!(outcome.timeline[3].begin, at(300));
        assert!((outcome.timeline[3].p99_ms - 320.0).abs() < 0.5);
        assert_eq!(outcome.longest_gap, at(330));
        assert_eq!(outcome.parts().count(), 2);
    }

    #[test]
    fn an_end_without_answers_is_a_gap() {
        let mut recorder = recorder();
        recorder.answered(Operation::Put, at(1_010), at(1_020));
        assert_eq!(recorder.finish(at(2_000), Duration::ZERO).longest_gap, at(1_980));
    }

    #[test]
    fn percentile_rows_go_as_far_as_the_values_tell() {
        let mut latency_ns = histogram();
        (1..=1_000).for_each(|us| latency_ns.saturating_record(us * 1_000));
        let rows = percentile_rows(&latency_ns);
        assert_eq!(rows.len(), 31);
        let close = |row: (f64, f64), quantile: f64, ms: f64| {
            assert!((row.0 - quantile).abs() < 1e-9 && (row.1 / ms - 1.0).abs() < 0.01, "{row:?}");
        };
        close(rows[0], 0.0, 0.001);
        close(rows[10], 0.9, 0.9);
        close(rows[20], 0.99, 0.99);
        close(rows[30], 0.999, 0.999);
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        assert_eq!(percentile_rows(&histogram()), [(0.0, 0.0)]);
    }

    #[test]
    fn the_json_has_what_plots_and_scripts_read() {
        let mut recorder = recorder();
        recorder.answered(Operation::Put, at(1_010), at(1_020));
        recorder.failed("cut off".to_owned());
        let json = recorder.finish(at(400), at(1)).to_json();
        assert_eq!(json["count"], 1);
        assert_eq!(json["failed"], 1);
        assert_eq!(json["first_failure"], "cut off");
        assert_eq!(json["operations"]["put"]["count"], 1);
        assert_eq!(json["timeline"].as_array().unwrap().len(), 4);
        assert!(json["timeline"][0]["p50_ms"].as_f64().unwrap() > 9.0);
        assert!(json["percentiles"][0][1].as_f64().unwrap() > 9.0);
        assert!((json["generator_cpu_us"].as_f64().unwrap() - 1_000.0).abs() < 1e-6);
    }
}
