//! Plots: bars with intervals, one picture a measure, as SVG.

use std::fmt::Write as _;

use super::{
    results::{Middle, Results},
    table,
};

const WIDTH: f64 = 860.0;
/// Where bars begin, and how long the longest may be.
const LEFT: f64 = 240.0;
const LONGEST: f64 = 470.0;
const ROW: f64 = 22.0;
const GAP: f64 = 34.0;
const TOP: f64 = 44.0;

/// The name of a measure's picture.
pub fn file(measure: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("{}.svg", measure.chars().map(word).collect::<String>())
}

/// A measure's picture: paths, and their systems.
pub fn svg(results: &Results, measure: &str) -> String {
    let most = results
        .samples
        .iter()
        .filter(|sample| sample.measure == measure)
        .map(|sample| Middle::of(&sample.values).high)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut body = String::new();
    let mut y = TOP;
    for path in results.distinct(|sample| Some(&sample.path)) {
        y += GAP;
        writeln!(body, "<text x=\"12\" y=\"{:.0}\" font-weight=\"bold\">{path}</text>", y - 8.0)
            .ok();
        let of_path = |s: &super::results::Sample| s.path == path && s.measure == measure;
        for sample in results.samples.iter().filter(|sample| of_path(sample)) {
            let middle = Middle::of(&sample.values);
            bar(&mut body, (measure, &sample.system), middle, y, LONGEST / most);
            y += ROW;
        }
    }
    let height = y + 16.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"17\" font-weight=\"bold\">{}</text>\n{body}</svg>\n",
        table::measure(measure)
    )
}

fn bar(
    body: &mut String,
    (measure, system): (&str, &str),
    Middle { median, low, high }: Middle,
    y: f64,
    scale: f64,
) {
    let colour = if system.starts_with("bascule") {
        "#2a7f62"
    } else if system.starts_with("docker") || system == "netavark" {
        "#c0703a"
    } else {
        "#9aa5b1"
    };
    let middle = y + ROW / 2.0;
    let [long, from, to] = [median, low, high].map(|value| (value * scale).max(0.0));
    writeln!(
        body,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\n\
         <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{long:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\n\
         <path d=\"M{:.1} {middle:.1}H{:.1}M{:.1} {:.1}v8M{:.1} {:.1}v8\" stroke=\"#222\" fill=\"none\"/>\n\
         <text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
        LEFT - 8.0,
        middle + 4.0,
        table::label(system),
        y + 3.0,
        ROW - 6.0,
        LEFT + from,
        LEFT + to,
        LEFT + from,
        middle - 4.0,
        LEFT + to,
        middle - 4.0,
        LEFT + to.max(long) + 8.0,
        middle + 4.0,
        table::number(measure, median)
    )
    .ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fits_and_names_are_files() {
        let sample = |system: &str, value: f64| super::super::results::Sample {
            measure: "udp packets/s".to_owned(),
            path: "container to container".to_owned(),
            system: system.to_owned(),
            values: vec![value; 15],
        };
        let samples = vec![sample("direct", 600e3), sample("bascule", 300e3)];
        let picture = svg(&Results { samples, ..Results::default() }, "udp packets/s");
        assert!(picture.contains("width=\"470.0\"") && picture.contains("width=\"235.0\""));
        assert!(picture.contains(">600k<") && picture.contains(">Bascule<"));
        assert_eq!(file("tcp 1 flow Gbit/s"), "tcp-1-flow-gbit-s.svg");
    }
}
