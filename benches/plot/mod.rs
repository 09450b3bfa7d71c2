//! Line charts as SVG, for the documentation.

/// Size of a panel.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 310.0;
/// The rectangle of the lines within it.
const LEFT: f64 = 50.0;
const TOP: f64 = 30.0;
const RIGHT: f64 = 430.0;
const BOTTOM: f64 = 270.0;

/// Colours of a legend's entries, in order.
pub(crate) const COLOURS: [&str; 4] = ["#1a7f37", "#9a6700", "#8c959f", "#0969da"];

/// One chart.
pub(crate) struct Panel {
    pub title: String,
    pub x_title: String,
    pub x_ticks: Vec<f64>,
    /// Places and labels, from the lowest to the highest; the axis ends at the last.
    pub y_ticks: Vec<(f64, String)>,
    /// Names to the right of the lines, each in the colour of its place.
    pub legend: Vec<String>,
    pub lines: Vec<Line>,
}

pub(crate) struct Line {
    /// Place in the legend.
    pub entry: usize,
    pub points: Vec<(f64, f64)>,
    pub is_dashed: bool,
}

/// The panels in rows of `columns`.
pub(crate) fn svg(panels: &[Panel], columns: usize) -> String {
    let (width, height) = (WIDTH * columns as f64, HEIGHT * panels.len().div_ceil(columns) as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        let (x, y) = (WIDTH * (i % columns) as f64, HEIGHT * (i / columns) as f64);
        out += &format!("<g transform=\"translate({x} {y})\">\n{}</g>\n", panel.body());
    }
    out + "</svg>\n"
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        let (first, last) = (self.x_ticks[0], self.x_ticks[self.x_ticks.len() - 1]);
        LEFT + (RIGHT - LEFT) * (value - first) / (last - first)
    }

    fn y(&self, value: f64) -> f64 {
        let (first, last) = (self.y_ticks[0].0, self.y_ticks[self.y_ticks.len() - 1].0);
        BOTTOM - (BOTTOM - TOP) * (value - first) / (last - first)
    }

    fn body(&self) -> String {
        let mut out = format!("<text x=\"{LEFT}\" y=\"18\">{}</text>\n", self.title);
        for (value, label) in &self.y_ticks {
            let (y, x) = (self.y(*value), LEFT - 6.0);
            out += &format!(
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#d0d7de\"/>\
                 <text x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
                y + 4.0
            );
        }
        for tick in &self.x_ticks {
            let (x, y) = (self.x(*tick), BOTTOM + 18.0);
            out += &format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{tick}</text>\n");
        }
        let (x, y) = ((LEFT + RIGHT) / 2.0, BOTTOM + 34.0);
        out += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>\n", self.x_title);
        for line in &self.lines {
            let points: Vec<_> =
                line.points.iter().map(|&(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y))).collect();
            out += &format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n",
                points.join(" "),
                COLOURS[line.entry % COLOURS.len()],
                if line.is_dashed { " stroke-dasharray=\"5 5\"" } else { "" }
            );
        }
        for (i, name) in self.legend.iter().enumerate() {
            let (x, y, colour) = (RIGHT + 16.0, 40.0 + 20.0 * i as f64, COLOURS[i % COLOURS.len()]);
            out += &format!("<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{name}</text>\n");
        }
        out
    }
}
