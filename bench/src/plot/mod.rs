//! Pictures of what `load` and `compare` wrote as JSON: latency by percentile, and over time, of all systems in one. And of
//! what `growth` wrote: latency and throughput over what grows.

mod growth;
mod svg;

use std::io;
use std::path::Path;

use serde_json::Value;
use svg::{Axis, Scale, Series, chart};

/// One workload, and what was measured of it.
struct Picture {
    name: String,
    /// The name of each system, and its outcome.
    systems: Vec<(String, Value)>,
}

/// Reads the files and writes two pictures for each workload, or kind of growth, into `directory`. Results of `load` go into
/// one.
pub fn run(files: &[String], directory: &Path) -> io::Result<()> {
    let mut loads = Picture { name: "load".to_owned(), systems: Vec::new() };
    let mut pictures = Vec::new();
    let mut drawn = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| named(file, &error))?;
        let json: Value = serde_json::from_str(&text).map_err(|error| named(file, &error))?;
        if let Some(outcomes) = json["outcomes"].as_array() {
            pictures.extend(outcomes.iter().map(of_comparison));
        } else if json["outcome"].is_object() {
            let name = format!("{} ({file})", json["target"].as_str().unwrap_or("?"));
            loads.systems.push((name, json["outcome"].clone()));
        } else if let Some(rows) = json["rows"].as_array() {
            drawn.extend(growth::pictures(rows));
        } else {
            return Err(named(file, &"it is no result of load, compare or growth (--json)"));
        }
    }
    if !loads.systems.is_empty() {
        pictures.push(loads);
    }
    for picture in &pictures {
        drawn.push((format!("{}-percentiles", picture.name), by_percentile(picture)));
        drawn.push((format!("{}-time", picture.name), over_time(picture)));
    }
    std::fs::create_dir_all(directory)?;
    for (name, svg) in drawn {
        let path = directory.join(format!("{}.svg", file_name(&name)));
        std::fs::write(&path, svg)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn named(file: &str, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{file}: {error}"))
}

fn of_comparison(outcome: &Value) -> Picture {
    let systems = outcome["systems"].as_object().into_iter().flatten();
    Picture {
        name: outcome["name"].as_str().unwrap_or("?").to_owned(),
        systems: systems.map(|(name, outcome)| (name.clone(), outcome.clone())).collect(),
    }
}

/// Letters and digits, with single dashes for the rest.
fn file_name(name: &str) -> String {
    let dashed = name.replace('%', "percent").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    dashed.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn by_percentile(picture: &Picture) -> String {
    let series: Vec<Series> = picture.systems.iter().enumerate().map(percentiles).collect();
    let all = || series.iter().flat_map(|one| &one.points);
    let nines = (0..8).map(|nines| 10_f64.powi(nines));
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let ticks = nines.zip(names).map(|(at, name)| (at, name.to_owned())).collect();
    let x = Axis::fit("percentile", Scale::Log, all().map(|point| point.0)).with_ticks(ticks);
    let y = Axis::fit("latency, ms", Scale::Log, all().map(|point| point.1));
    chart(&format!("{}: latency by percentile", picture.name), &x, &y, &series)
}

/// Latency over 1 / (1 - quantile).
fn percentiles((system, (name, outcome)): (usize, &(String, Value))) -> Series {
    let rows = outcome["percentiles"].as_array().into_iter().flatten();
    let point = |row: &Value| Some((1.0 / (1.0 - row[0].as_f64()?), row[1].as_f64()?));
    Series { name: name.clone(), points: rows.filter_map(point).collect(), system, dashed: false }
}

fn over_time(picture: &Picture) -> String {
    let kinds = [("p50_ms", "p50", false), ("p99_ms", "p99", true)];
    let of = |(system, (name, outcome)): (usize, &(String, Value))| {
        kinds.map(|(key, kind, dashed)| {
            let name = format!("{name}, {kind}");
            Series { name, points: timeline(outcome, key), system, dashed }
        })
    };
    let series: Vec<Series> = picture.systems.iter().enumerate().flat_map(of).collect();
    let all = || series.iter().flat_map(|one| &one.points);
    let x = Axis::fit("seconds", Scale::Linear, all().map(|point| point.0));
    let y = Axis::fit("latency, ms", Scale::Log, all().map(|point| point.1));
    chart(&format!("{}: latency over time", picture.name), &x, &y, &series)
}

/// Rows in which nothing was answered have no latency, and are left out.
fn timeline(outcome: &Value, key: &str) -> Vec<(f64, f64)> {
    let rows = outcome["timeline"].as_array().into_iter().flatten();
    let answered = rows.filter(|row| row["count"].as_u64() != Some(0));
    answered.filter_map(|row| Some((row["at_s"].as_f64()?, row[key].as_f64()?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pictures_show_both_systems() {
        let outcome = |ms: f64| {
            json!({
                "percentiles": [[0.0, ms], [0.9, 2.0 * ms], [0.99, 9.0 * ms]],
                "timeline": [
                    {"at_s": 0.0, "count": 3, "p50_ms": ms, "p99_ms": ms * 2.0},
                    {"at_s": 0.1, "count": 0, "p50_ms": 0.0, "p99_ms": 0.0},
                    {"at_s": 0.2, "count": 3, "p50_ms": ms, "p99_ms": ms * 2.0},
                ],
            })
        };
        let name = "3 nodes, 10 % put, 90 % get";
        let systems = json!({ "etcd": outcome(1.0), "phalanx": outcome(0.2) });
        let picture = of_comparison(&json!({ "name": name, "systems": systems }));
        assert_eq!(file_name(&picture.name), "3-nodes-10-percent-put-90-percent-get");
        for svg in [by_percentile(&picture), over_time(&picture)] {
            svg::tests::require_well_formed(&svg);
            assert!(svg.contains("etcd") && svg.contains("phalanx"), "{svg}");
        }
        assert_eq!(timeline(&picture.systems[0].1, "p50_ms").len(), 2);
        assert!(by_percentile(&picture).contains("99 %"));
    }
}
