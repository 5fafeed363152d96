//! Latency over time as a picture that a browser shows: for each scenario its percentiles, and a line for each.

use serde_json::Value;

use super::report::scenarios;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 46.0;
const PLOT: (f64, f64) = (860.0, 130.0);

/// Percentiles that are drawn, with their colours.
const LINES: [(&str, &str); 4] = [
    ("p50", "#2b6cb0"),
    ("p95", "#2f855a"),
    ("p99", "#c05621"),
    ("max", "#a0aec0"),
];

/// The picture of a summary; each scenario is a field of its own.
pub(super) fn of(summary: &Value) -> String {
    let drawn: Vec<&Value> = scenarios(summary).collect();
    let height = HEIGHT * (drawn.len().max(1) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, scenario) in drawn.into_iter().enumerate() {
        let name = scenario["name"].as_str().unwrap_or_default();
        let points = summary["timeline"][name]
            .as_array()
            .cloned()
            .unwrap_or_default();
        svg += &field(scenario, &points, HEIGHT * number as f64);
    }
    svg + "</svg>\n"
}

fn field(scenario: &Value, points: &[Value], top: f64) -> String {
    let (width, height) = PLOT;
    let end = scenario["seconds"].as_f64().unwrap_or(1.0).max(1.0);
    let most = points
        .iter()
        .filter_map(|point| point["max"].as_f64())
        .fold(0.0, f64::max);
    let most = rounded_up(most);
    let base = top + TOP + height;
    let mut svg = format!(
        "<text x=\"{LEFT}\" y=\"{}\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
        top + 18.0,
        title(scenario)
    );
    for share in [0.0, 0.5, 1.0] {
        let y = base - share * height;
        svg += &format!(
            "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"#e2e8f0\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{} ms</text>\n",
            LEFT + width,
            LEFT - 6.0,
            y + 4.0,
            share * most,
        );
        svg += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{:.0} s</text>\n",
            LEFT + share * width,
            base + 16.0,
            share * end,
        );
    }
    for (index, (percentile, colour)) in LINES.iter().enumerate() {
        let places: Vec<String> = points
            .iter()
            .filter_map(|point| Some((point["at"].as_f64()?, point[percentile].as_f64()?)))
            .map(|(at, ms)| {
                format!(
                    "{:.1},{:.1}",
                    LEFT + width * (at / end).min(1.0),
                    base - height * ms / most
                )
            })
            .collect();
        svg += &format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\n",
            places.join(" ")
        );
        let value = scenario["latency_ms"][percentile]
            .as_f64()
            .unwrap_or_default();
        svg += &format!(
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{percentile} {value:.2} ms</text>\n",
            LEFT + 140.0 * index as f64,
            top + 36.0,
        );
    }
    svg
}

fn title(scenario: &Value) -> String {
    let text = format!(
        "{}: {}, {} iterations, {} dropped",
        scenario["name"].as_str().unwrap_or_default(),
        scenario["offered"].as_str().unwrap_or_default(),
        scenario["iterations"],
        scenario["dropped_iterations"],
    );
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The next of 1, 2, 5, 10, 20, …
fn rounded_up(number: f64) -> f64 {
    let mut step = 1.0;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if step * factor >= number {
                return step * factor;
            }
        }
        step *= 10.0;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scales_end_with_round_numbers() {
        for (number, wanted) in [
            (0.0, 1.0),
            (1.1, 2.0),
            (3.0, 5.0),
            (51.0, 100.0),
            (1000.0, 1000.0),
        ] {
            assert_eq!(rounded_up(number), wanted);
        }
    }

    #[test]
    fn each_percentile_is_a_line_within_the_field() {
        let summary = json!({
            "scenarios": [{"name": "a<b", "seconds": 10, "offered": "1/s", "iterations": 2, "dropped_iterations": 0,
                "latency_ms": {"p50": 1, "p95": 2, "p99": 3, "max": 4}}],
            "timeline": {"a<b": [{"at": 2.5, "p50": 0, "p95": 2, "p99": 3, "max": 5}, {"at": 10, "p50": 5, "p95": 5, "p99": 5, "max": 5}]},
        });
        let svg = of(&summary);
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(svg.contains("points=\"285.0,176.0 930.0,46.0\""), "{svg}");
        assert!(svg.contains("a&lt;b: 1/s"));
    }
}
