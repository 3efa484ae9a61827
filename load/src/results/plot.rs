//! Line charts as SVG text: no script, no files from elsewhere, colours from the page.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Points of a line; more would only make the page larger.
const POINTS: usize = 600;

/// A chart.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// Under the horizontal axis.
    pub(super) along: &'a str,
    pub(super) lines: Vec<Line>,
    /// How a height is written.
    pub(super) label: fn(f64) -> String,
    /// Heights are logarithmic.
    pub(super) logarithmic: bool,
    /// Marks of the horizontal axis.
    pub(super) marks: Vec<(f64, String)>,
}

/// A line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    /// As an HTML figure; nothing where there is nothing to show.
    pub(super) fn figure(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (Some(right), Some(high)) = (points().map(|(x, _)| *x).reduce(f64::max), points().map(|(_, y)| *y).reduce(f64::max)) else {
            return String::new();
        };
        let left = points().map(|(x, _)| *x).fold(right, f64::min);
        let low = points().map(|(_, y)| *y).fold(high, f64::min);
        let scale = Scale::new((left, right), (low, high), self.logarithmic);
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = write!(svg, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escaped(self.title));
        for height in scale.heights() {
            let y = scale.y(height);
            let _ = write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#, WIDTH - RIGHT);
            let _ = write!(
                svg,
                r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 6.0,
                y + 4.0,
                escaped(&(self.label)(height))
            );
        }
        for (at, text) in self.marks.iter().filter(|(at, _)| (left..=right).contains(at)) {
            let _ = write!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, scale.x(*at), HEIGHT - 18.0, escaped(text));
        }
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            (LEFT + WIDTH) / 2.0,
            HEIGHT - 3.0,
            escaped(self.along)
        );
        for (number, line) in self.lines.iter().enumerate() {
            let step = line.points.len().div_ceil(POINTS).max(1);
            let last = line.points.len().saturating_sub(1);
            let kept = line.points.iter().enumerate().filter(|(index, _)| index % step == 0 || *index == last);
            let path: Vec<String> = kept.map(|(_, (x, y))| format!("{:.1},{:.1}", scale.x(*x), scale.y(*y))).collect();
            let _ = write!(svg, r#"<polyline class="line c{}" points="{}"/>"#, number % 8, path.join(" "));
        }
        svg.push_str("</svg>");
        let legend: Vec<String> = self
            .lines
            .iter()
            .enumerate()
            .map(|(number, line)| format!(r#"<span class="k c{}">{}</span>"#, number % 8, escaped(&line.name)))
            .collect();
        format!("<figure><figcaption>{}</figcaption>{svg}<p>{}</p></figure>", escaped(self.title), legend.join(" "))
    }
}

struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    logarithmic: bool,
}

impl Scale {
    fn new(x: (f64, f64), (low, high): (f64, f64), logarithmic: bool) -> Self {
        let y = if logarithmic {
            let low = low.max(1.0).log10().floor();
            (low, high.max(1.0).log10().ceil().max(low + 1.0))
        } else {
            (0.0, if high > 0.0 { high * 1.05 } else { 1.0 })
        };
        Self { x: (x.0, if x.1 > x.0 { x.1 } else { x.0 + 1.0 }), y, logarithmic }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, height: f64) -> f64 {
        let height = if self.logarithmic { height.max(1.0).log10() } else { height };
        HEIGHT - BOTTOM - (height - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - BOTTOM - TOP)
    }

    /// Where the lines across are.
    fn heights(&self) -> Vec<f64> {
        if self.logarithmic {
            return (self.y.0 as i32..=self.y.1 as i32).map(|power| 10_f64.powi(power)).collect();
        }
        let rough = self.y.1 / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(power * 10.0);
        (0..=5).map(|index| step * f64::from(index)).filter(|height| *height <= self.y.1).collect()
    }
}

/// As text in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_its_lines_within_its_frame() {
        let line = Line { name: "a<b".into(), points: vec![(0.0, 10.0), (5.0, 1000.0)] };
        for logarithmic in [false, true] {
            let chart = Chart {
                title: "t",
                along: "s",
                lines: vec![Line { name: line.name.clone(), points: line.points.clone() }],
                label: |height| format!("{height}"),
                logarithmic,
                marks: vec![(5.0, "end".into())],
            };
            let figure = chart.figure();
            assert!(figure.contains("a&lt;b") && figure.contains("polyline") && figure.contains("end"));
            let points = figure.split_once("points=\"").and_then(|(_, rest)| rest.split_once('"')).expect("points").0;
            for point in points.split(' ') {
                let (x, y) = point.split_once(',').expect("a pair");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!((LEFT..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
            }
        }
        assert_eq!(Chart { title: "", along: "", lines: vec![], label: |_| String::new(), logarithmic: false, marks: vec![] }.figure(), "");
    }
}
