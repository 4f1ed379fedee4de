//! How puts change as one thing grows: latency over it, and throughput.

use serde_json::Value;

use super::svg::{Axis, Scale, Series, chart};

/// A picture for each kind of growth and figure: the name of its file, and the picture.
pub fn pictures(rows: &[Value]) -> Vec<(String, String)> {
    let mut kinds: Vec<&str> = rows.iter().filter_map(|row| row["grows"].as_str()).collect();
    kinds.dedup();
    kinds.into_iter().flat_map(|kind| of_kind(kind, rows)).collect()
}

fn of_kind(kind: &str, rows: &[Value]) -> [(String, String); 2] {
    let line = |system, key: &str, name: &str| {
        let own = rows.iter().filter(|row| row["grows"] == kind);
        let point = |row: &Value| Some((row["value"].as_f64()?, row["outcome"][key].as_f64()?));
        let points = own.filter_map(point).collect();
        Series { name: name.to_owned(), points, system, dashed: false }
    };
    let latency = [line(0, "p50_ms", "p50"), line(1, "p99_ms", "p99")];
    let throughput = [line(2, "throughput_per_s", "puts answered")];
    [
        (format!("growth-{kind}-latency"), picture(kind, "latency, ms", &latency)),
        (format!("growth-{kind}-throughput"), picture(kind, "puts in a second", &throughput)),
    ]
}

fn picture(kind: &str, figure: &str, series: &[Series]) -> String {
    let all = || series.iter().flat_map(|one| &one.points);
    let x = Axis::fit(kind, Scale::Log, all().map(|point| point.0));
    let y = Axis::fit(figure, Scale::Log, all().map(|point| point.1));
    // The values that were measured are the marks that are wanted.
    let marks = series[0].points.iter().map(|(at, _)| (*at, at.to_string())).collect();
    chart(&format!("{figure}, over {kind}"), &x.with_ticks(marks), &y, series)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plot::svg::tests::require_well_formed;

    #[test]
    fn each_kind_of_growth_has_its_pictures() {
        let row = |kind: &str, value: u64, ms: f64| {
            let outcome = json!({ "p50_ms": ms, "p99_ms": 3.0 * ms, "throughput_per_s": 1e3 / ms });
            json!({ "grows": kind, "value": value, "outcome": outcome })
        };
        let rows = [row("keys", 1000, 0.5), row("keys", 10_000, 0.6), row("nodes", 1, 0.3)];
        let pictures = pictures(&rows);
        let names: Vec<_> = pictures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..2], ["growth-keys-latency", "growth-keys-throughput"]);
        assert_eq!(pictures.len(), 4);
        for (_, svg) in &pictures {
            require_well_formed(svg);
        }
        assert!(pictures[0].1.contains("10000") && pictures[0].1.contains("p99"));
    }
}
