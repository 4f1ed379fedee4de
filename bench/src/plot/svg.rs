//! A chart as SVG: axes with ticks, lines, a legend. As much as the plots need, with no library.

use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;
/// Told apart by those who see few colours.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#8a5a9e"];

/// How numbers become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

/// An axis: its name, its range, and the marks along it.
#[derive(Debug, Clone)]
pub struct Axis {
    name: String,
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that has room for these values. Those of a logarithmic one that are not above zero are left out.
    pub fn fit(name: &str, scale: Scale, values: impl Iterator<Item = f64>) -> Axis {
        let values =
            values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        match scale {
            Scale::Linear => Axis::linear(name, high),
            Scale::Log => Axis::log(name, low, high),
        }
    }

    /// From zero on, with about eight marks.
    fn linear(name: &str, high: f64) -> Axis {
        let high = if high > 0.0 { high } else { 1.0 };
        let rough = high / 8.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|times| times * power)
            .into_iter()
            .find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let count = (high / step).ceil();
        let ticks = (0..=count as u32)
            .map(|at| (f64::from(at) * step, number(f64::from(at) * step)))
            .collect();
        Axis { name: name.to_owned(), scale: Scale::Linear, low: 0.0, high: count * step, ticks }
    }

    /// Marks at 1, 2 and 5 of each power of ten.
    fn log(name: &str, low: f64, high: f64) -> Axis {
        let mantissas = [1.0, 2.0, 5.0];
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let all: Vec<f64> =
            (first..=last).flat_map(|power| mantissas.map(|it| it * 10_f64.powi(power))).collect();
        let low = all.iter().copied().filter(|mark| *mark <= low * 1.0001).fold(f64::NAN, f64::max);
        let high = all
            .iter()
            .copied()
            .find(|mark| *mark >= high * 0.9999 && *mark > low)
            .unwrap_or(low * 10.0);
        let ticks = all
            .into_iter()
            .filter(|mark| (low..=high).contains(mark))
            .map(|mark| (mark, number(mark)))
            .collect();
        Axis { name: name.to_owned(), scale: Scale::Log, low, high, ticks }
    }

    /// Other marks than the usual ones.
    pub fn with_ticks(mut self, ticks: Vec<(f64, String)>) -> Axis {
        self.ticks =
            ticks.into_iter().filter(|(at, _)| (self.low..=self.high).contains(at)).collect();
        self
    }

    /// The place of a value, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).log10() / (self.high / self.low).log10(),
        }
    }
}

fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A line of the chart.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Which colour.
    pub system: usize,
    pub dashed: bool,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Draws it.
pub fn chart(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let across = |value| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
    let up = |value| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let text = |at: (f64, f64), anchor: &str, more: &str, text: &str| {
        let (x, y) = at;
        format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{}</text>\n",
            escaped(text)
        )
    };
    out += &text((WIDTH / 2.0, 22.0), "middle", " font-size=\"16\"", title);
    out += &text((WIDTH / 2.0, HEIGHT - 14.0), "middle", "", &x.name);
    let middle = HEIGHT / 2.0;
    out += &text(
        (18.0, middle),
        "middle",
        &format!(" transform=\"rotate(-90 18 {middle})\""),
        &y.name,
    );
    for (value, name) in &x.ticks {
        let at = across(*value);
        out += &rule((at, TOP), (at, HEIGHT - BOTTOM));
        out += &text((at, HEIGHT - BOTTOM + 18.0), "middle", "", name);
    }
    for (value, name) in &y.ticks {
        let at = up(*value);
        out += &rule((LEFT, at), (WIDTH - RIGHT, at));
        out += &text((LEFT - 8.0, at + 4.0), "end", "", name);
    }
    for (at, one) in series.iter().enumerate() {
        let colour = COLOURS[one.system % COLOURS.len()];
        let dash = if one.dashed { "5 4" } else { "none" };
        let style = format!(
            "fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\""
        );
        let drawable =
            one.points.iter().filter(|(_, value)| y.scale == Scale::Linear || *value > 0.0);
        let points = drawable.fold(String::new(), |mut points, (a, b)| {
            write!(points, "{:.1},{:.1} ", across(*a), up(*b)).expect("a string takes all");
            points
        });
        out += &format!("<polyline {style} points=\"{}\"/>\n", points.trim_end());
        let (from, height) = (LEFT + 10.0 + 200.0 * at as f64, TOP - 14.0);
        out +=
            &format!("<polyline {style} points=\"{from},{height} {},{height}\"/>\n", from + 30.0);
        out += &text((from + 38.0, height + 4.0), "start", "", &one.name);
    }
    out + "</svg>\n"
}

fn rule(from: (f64, f64), to: (f64, f64)) -> String {
    let ((x1, y1), (x2, y2)) = (from, to);
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>\n")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// That tags nest, attributes are quoted and nothing is left over: as much XML as is written here.
    pub fn require_well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some((text, after)) = rest.split_once('<') {
            assert!(!text.contains('>'), "a bare > in {text:?}");
            let (tag, after) = after.split_once('>').expect("a tag ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(!tag.contains('<') && !tag.contains("NaN") && !tag.contains("inf"), "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap().to_owned());
            }
            rest = after;
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
    }

    #[test]
    fn a_chart_is_well_formed_whatever_it_shows() {
        let series = |points: &[(f64, f64)]| Series {
            name: "a <b> & \"c\"".to_owned(),
            points: points.to_vec(),
            system: 5,
            dashed: true,
        };
        let cases: [&[(f64, f64)]; 4] = [
            &[],
            &[(0.0, 0.0)],
            &[(1.0, 5.0), (2.0, 5.0)],
            &[(1.0, 0.01), (10.0, 2_000.0), (100.0, 0.0)],
        ];
        for points in cases {
            for scale in [Scale::Linear, Scale::Log] {
                let x = Axis::fit("x", Scale::Linear, points.iter().map(|it| it.0));
                let y = Axis::fit("y & more", scale, points.iter().map(|it| it.1));
                require_well_formed(&chart("<title>", &x, &y, &[series(points), series(points)]));
            }
        }
    }

    #[test]
    fn axes_have_room_for_all_values_and_a_few_marks() {
        for values in [[0.013, 0.4], [3.0, 3.0], [0.9, 8_700.0]] {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = Axis::fit("x", scale, values.into_iter());
                assert!(
                    values.iter().all(|value| (-0.001..=1.001).contains(&axis.place(*value))),
                    "{axis:?}"
                );
                assert!((2..25).contains(&axis.ticks.len()), "{axis:?}");
            }
        }
    }
}
