//! Plots as SVG: axes, lines, areas, cells and dots, without a script.

use maud::{Markup, PreEscaped, html};
use std::fmt::Write;

/// Room around the plotting area.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    Linear {
        low: f64,
        high: f64,
    },
    /// Both ends are above zero.
    Log {
        low: f64,
        high: f64,
    },
}

impl Scale {
    /// From zero to the highest of `values`.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>) -> Self {
        let high = values.fold(0.0, f64::max);
        Self::Linear { low: 0.0, high: if high > 0.0 { high * 1.05 } else { 1.0 } }
    }

    /// Over the values that are above zero, a little wider.
    pub(super) fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| *value > 0.0)
            .fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        match high > 0.0 {
            true => Self::Log { low: low / 1.1, high: high * 1.1 },
            false => Self::Log { low: 1.0, high: 10.0 },
        }
    }

    /// From 0 to 1.
    fn place(self, value: f64) -> f64 {
        let share = match self {
            Self::Linear { low, high } => (value - low) / (high - low),
            Self::Log { low, high } => (value.max(low) / low).ln() / (high / low).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Round values to mark, at most about eight.
    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { low, high } => {
                let raw = (high - low) / 6.0;
                let power = 10f64.powf(raw.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= raw);
                let step = step.unwrap_or(10.0) * power;
                let first = (low / step).ceil();
                (0..12u32)
                    .map(|index| (first + f64::from(index)) * step)
                    .take_while(|tick| *tick <= high)
                    .collect()
            }
            Self::Log { low, high } => {
                let powers = (low.log10().floor(), high.log10().ceil());
                let factors: &[f64] =
                    if powers.1 - powers.0 <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                (0..20u32)
                    .map(|index| 10f64.powf(powers.0 + f64::from(index)))
                    .flat_map(|power| factors.iter().map(move |factor| factor * power))
                    .filter(|tick| (low..=high).contains(tick))
                    .collect()
            }
        }
    }
}

/// From corner to corner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) from: (f64, f64),
    pub(super) to: (f64, f64),
}

/// One plot under construction.
pub(super) struct Plot {
    x: Scale,
    y: Scale,
    width: f64,
    height: f64,
    body: String,
}

impl Plot {
    pub(super) fn new(x: Scale, y: Scale, height: f64) -> Self {
        Self { x, y, width: 860.0, height, body: String::new() }
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (width, height) = (self.width - LEFT - RIGHT, self.height - TOP - BOTTOM);
        (LEFT + self.x.place(x) * width, TOP + (1.0 - self.y.place(y)) * height)
    }

    fn put(&mut self, element: &str) {
        self.body.push_str(element);
    }

    /// A line through the points; a missing value breaks it.
    pub(super) fn line(&mut self, points: &[(f64, Option<f64>)], class: &str) {
        let mut path = String::new();
        let mut pen = 'M';
        for &(x, y) in points {
            let Some(y) = y else {
                pen = 'M';
                continue;
            };
            let (x, y) = self.at(x, y);
            write!(path, "{pen}{x:.1} {y:.1}").expect("strings take all");
            pen = 'L';
        }
        self.put(&format!("<path class=\"line {class}\" d=\"{path}\"/>"));
    }

    /// The area between two lines over the same places.
    pub(super) fn between(&mut self, points: &[(f64, f64, f64)], class: &str) {
        let lower = points.iter().map(|&(x, low, _)| self.at(x, low));
        let upper = points.iter().rev().map(|&(x, _, high)| self.at(x, high));
        let corners: Vec<String> =
            lower.chain(upper).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(&format!("<polygon class=\"area {class}\" points=\"{}\"/>", corners.join(" ")));
    }

    /// Filled cells from corner to corner, all as dark.
    pub(super) fn cells(&mut self, cells: &[Cell], strength: f64) {
        if cells.is_empty() {
            return;
        }
        let mut path = String::new();
        for &Cell { from, to } in cells {
            let ((left, bottom), (right, top)) = (self.at(from.0, from.1), self.at(to.0, to.1));
            let (width, height) = ((right - left).max(0.5) + 0.3, (bottom - top).max(0.5) + 0.3);
            write!(path, "M{left:.1} {top:.1}h{width:.1}v{height:.1}h-{width:.1}z")
                .expect("strings take all");
        }
        self.put(&format!("<path class=\"cell\" fill-opacity=\"{strength:.2}\" d=\"{path}\"/>"));
    }

    /// Nothing to be seen over the whole height, with a text for whoever points at it.
    pub(super) fn column(&mut self, from: f64, to: f64, title: &str) {
        let ((left, _), (right, _)) = (self.at(from, 0.0), self.at(to, 0.0));
        let (width, height, title) = (right - left, self.height - TOP - BOTTOM, escaped(title));
        self.put(&format!(
            "<rect class=\"column\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"><title>{title}</title></rect>"
        ));
    }

    /// Something that lasted from one place to another, over the whole height.
    pub(super) fn shade(&mut self, from: f64, to: f64, title: &str) {
        let ((left, _), (right, _)) = (self.at(from, 0.0), self.at(to, 0.0));
        let (width, title) = ((right - left).max(1.5), escaped(title));
        let height = self.height - TOP - BOTTOM;
        self.put(&format!(
            "<rect class=\"fault\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"><title>{title}</title></rect>"
        ));
    }

    /// A mark above the plot.
    pub(super) fn mark(&mut self, from: f64, to: f64, strength: f64, title: &str) {
        let ((left, _), (right, _)) = (self.at(from, 0.0), self.at(to, 0.0));
        let (width, title) = ((right - left).max(0.5), escaped(title));
        self.put(&format!(
            "<rect class=\"mark\" x=\"{left:.1}\" y=\"2\" width=\"{width:.1}\" height=\"7\" \
             fill-opacity=\"{:.2}\"><title>{title}</title></rect>",
            strength.clamp(0.06, 1.0)
        ));
    }

    /// A dot.
    pub(super) fn dot(&mut self, x: f64, y: f64, class: &str, title: &str) {
        let ((x, y), title) = (self.at(x, y), escaped(title));
        self.put(&format!(
            "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\">\
             <title>{title}</title></circle>"
        ));
    }

    /// A horizontal bar at a height, from one value to another.
    pub(super) fn bar(&mut self, from: f64, to: f64, y: f64, class: &str) {
        let ((left, height), (right, _)) = (self.at(from, y), self.at(to, y));
        self.put(&format!(
            "<line class=\"bar {class}\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{height:.1}\" \
             y2=\"{height:.1}\"/>"
        ));
    }

    /// A vertical rule.
    pub(super) fn rule(&mut self, x: f64, class: &str) {
        let ((x, top), bottom) = (self.at(x, f64::MAX), self.height - BOTTOM);
        let top = top.min(TOP);
        self.put(&format!(
            "<line class=\"rule {class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" \
             y2=\"{bottom:.1}\"/>"
        ));
    }

    /// A text beside a place in the plot.
    pub(super) fn text(&mut self, x: f64, y: f64, text: &str) {
        let (x, y) = self.at(x, y);
        let text = escaped(text);
        self.put(&format!("<text class=\"note\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>", y + 4.0));
    }

    /// The whole picture, with axes.
    pub(super) fn render(
        self,
        name: &str,
        x_text: &dyn Fn(f64) -> String,
        y_text: &dyn Fn(f64) -> String,
    ) -> Markup {
        let mut axes = String::new();
        let bottom = self.height - BOTTOM;
        for tick in self.x.ticks() {
            let (x, _) = self.at(tick, 0.0);
            let text = escaped(&x_text(tick));
            write!(
                axes,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text class=\"tick x\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>",
                bottom + 18.0
            )
            .expect("strings take all");
        }
        for tick in self.y.ticks() {
            let (_, y) = self.at(f64::MIN_POSITIVE, tick);
            let text = escaped(&y_text(tick));
            write!(
                axes,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick y\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                self.width - RIGHT,
                LEFT - 8.0,
                y + 4.0
            )
            .expect("strings take all");
        }
        let view = format!("0 0 {} {}", self.width, self.height);
        html! {
            svg viewBox=(view) role="img" aria-label=(name) {
                (PreEscaped(axes))
                (PreEscaped(self.body))
            }
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let linear = Scale::Linear { low: 0.0, high: 12_345.0 }.ticks();
        assert_eq!(linear, [0.0, 5_000.0, 10_000.0]);
        let decades = Scale::Log { low: 900.0, high: 2e7 }.ticks();
        assert_eq!(decades, [1e3, 1e4, 1e5, 1e6, 1e7]);
        assert!(Scale::Log { low: 100.0, high: 900.0 }.ticks().len() >= 3);
    }

    #[test]
    fn values_beyond_the_ends_stay_inside() {
        let scale = Scale::Log { low: 1.0, high: 100.0 };
        assert!((scale.place(10.0) - 0.5).abs() < 1e-9);
        assert!(scale.place(0.0) < 1e-9 && scale.place(1e9) > 0.999);
        assert_eq!(Scale::log([0.0].into_iter()), Scale::Log { low: 1.0, high: 10.0 });
    }

    #[test]
    fn text_cannot_break_out() {
        let mut plot = Plot::new(
            Scale::Linear { low: 0.0, high: 1.0 },
            Scale::Linear { low: 0.0, high: 1.0 },
            200.0,
        );
        plot.dot(0.5, 0.5, "a", "<script>&\"");
        let text = plot.render("n", &|_| String::new(), &|_| String::new()).into_string();
        assert!(text.contains("&lt;script&gt;&amp;&quot;") && !text.contains("<script>"), "{text}");
    }
}
