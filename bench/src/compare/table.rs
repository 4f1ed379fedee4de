//! Figures of both systems side by side: medians over rounds, ratios, and whether targets are reached.

use serde_json::{Value, json};

use super::suite::{Figure, Metric};

/// One line: what each round measured.
#[derive(Debug, Clone)]
pub struct Line {
    pub nodes: usize,
    pub part: &'static str,
    pub figure: Figure,
    pub phalanx: Vec<f64>,
    pub etcd: Vec<f64>,
    pub floor: Option<f64>,
}

/// `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some(if values.len().is_multiple_of(2) {
        (values[middle] + values[middle + 1]) / 2.0
    } else {
        values[middle]
    })
}

impl Line {
    /// How many times better Phalanx is: faster, smaller, or more in a second.
    pub fn ratio(&self) -> Option<f64> {
        let (phalanx, etcd) = (median(&self.phalanx)?, median(&self.etcd)?);
        Some(if self.figure.metric == Metric::Throughput { phalanx / etcd } else { etcd / phalanx })
    }

    fn times_floor(&self) -> Option<f64> {
        Some(median(&self.phalanx)? / self.floor?)
    }

    /// `None` if there is no target, or nothing to hold to it.
    fn is_met(&self) -> Option<bool> {
        let ahead = self.figure.ahead.zip(self.ratio()).map(|(target, ratio)| ratio >= target);
        let floor =
            self.figure.above_floor.zip(self.times_floor()).map(|(target, times)| times <= target);
        let value = median(&self.phalanx);
        let absolute = self.figure.at_most.zip(value).map(|(target, value)| value <= target);
        [ahead, floor, absolute].into_iter().flatten().reduce(|all, met| all && met)
    }

    fn target(&self) -> String {
        let ahead = self.figure.ahead.map(|times| format!(">= {times}x"));
        let floor = self.figure.above_floor.map(|times| format!("<= {times}x floor"));
        let absolute = self.figure.at_most.map(|most| format!("<= {most}"));
        [ahead, floor, absolute].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    pub fn to_json(&self) -> Value {
        json!({
            "nodes": self.nodes, "workload": self.part, "metric": self.figure.metric.name(),
            "unit": self.figure.metric.unit(),
            "phalanx": median(&self.phalanx), "etcd": median(&self.etcd), "ratio": self.ratio(),
            "floor": self.floor, "times_floor": self.times_floor(),
            "target_ratio": self.figure.ahead, "target_times_floor": self.figure.above_floor,
            "target_at_most": self.figure.at_most, "met": self.is_met(),
            "rounds": { "phalanx": self.phalanx, "etcd": self.etcd },
        })
    }
}

fn number(value: Option<f64>, metric: Metric) -> String {
    match (value, metric) {
        (None, _) => "-".to_owned(),
        (Some(value), Metric::Throughput | Metric::Resident | Metric::Anonymous) => {
            format!("{value:.0}")
        }
        (Some(value), _) => format!("{value:.3}"),
    }
}

/// The table as Markdown, which is read as it is too.
pub fn table(lines: &[Line]) -> String {
    let times = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}x"));
    let heads = [
        "nodes", "workload", "figure", "Phalanx", "etcd", "ratio", "floor", "/ floor", "target",
        "met",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for line in lines {
        let metric = line.figure.metric;
        rows.push([
            line.nodes.to_string(),
            line.part.to_owned(),
            format!("{}, {}", metric.name(), metric.unit()),
            number(median(&line.phalanx), metric),
            number(median(&line.etcd), metric),
            times(line.ratio()),
            number(line.floor, metric),
            times(line.times_floor()),
            line.target(),
            line.is_met().map_or("", |met| if met { "yes" } else { "no" }).to_owned(),
        ]);
    }
    let widths: Vec<usize> = (0..heads.len())
        .map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0))
        .collect();
    rows.insert(1, std::array::from_fn(|at| "-".repeat(widths[at])));
    let text = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} "));
        format!("|{}|", cells.collect::<Vec<_>>().join("|"))
    });
    text.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(metric: Metric, phalanx: &[f64], etcd: &[f64]) -> Line {
        Line {
            nodes: 3,
            part: "put, 1 client",
            figure: Figure { metric, ahead: Some(2.0), above_floor: Some(1.5), at_most: None },
            phalanx: phalanx.to_vec(),
            etcd: etcd.to_vec(),
            floor: (metric != Metric::Throughput).then_some(0.1),
        }
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_above_one_is_better_whatever_the_figure() {
        assert_eq!(line(Metric::P50, &[0.25, 0.5, 9.0], &[1.5]).ratio(), Some(3.0));
        assert_eq!(line(Metric::Throughput, &[600.0], &[200.0]).ratio(), Some(3.0));
        assert_eq!(line(Metric::P50, &[0.1], &[]).ratio(), None);
    }

    #[test]
    fn a_target_is_met_when_all_of_it_is() {
        assert_eq!(line(Metric::P50, &[0.14], &[0.28]).is_met(), Some(true));
        assert_eq!(
            line(Metric::P50, &[0.16], &[0.99]).is_met(),
            Some(false),
            "over 1.5 times the floor"
        );
        assert_eq!(
            line(Metric::P50, &[0.14], &[0.27]).is_met(),
            Some(false),
            "less than twice as fast"
        );
        assert_eq!(line(Metric::Throughput, &[400.0], &[200.0]).is_met(), Some(true));
        let mut open = line(Metric::P50, &[0.14], &[0.1]);
        open.figure = Figure { ahead: None, above_floor: None, ..open.figure };
        assert_eq!(open.is_met(), None);
    }

    #[test]
    fn the_table_has_a_row_for_each_line_and_columns_that_align() {
        let lines = [line(Metric::P50, &[0.14], &[0.28]), line(Metric::Throughput, &[400.0], &[])];
        let text = table(&lines);
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert!(
            rows[2].contains("2.00x") && rows[2].contains("1.40x") && rows[2].contains("yes"),
            "{text}"
        );
        assert!(rows[3].contains(" 400 "), "{text}");
    }

    #[test]
    fn the_json_has_medians_rounds_and_the_ratio() {
        let json = line(Metric::P50, &[0.1, 0.2, 0.3], &[0.4]).to_json();
        assert_eq!((json["phalanx"].as_f64(), json["ratio"].as_f64()), (Some(0.2), Some(2.0)));
        assert_eq!(json["rounds"]["phalanx"].as_array().unwrap().len(), 3);
        assert_eq!(json["met"], false);
        assert!(line(Metric::P50, &[0.1], &[]).to_json()["etcd"].is_null());
    }
}
