//! A budget: what is measured, the bar that it is held to, and the table of all of them.

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::path::Path;

/// On which side of its bar a figure must lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// One measured budget.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub name: &'static str,
    /// What it is held to.
    pub bar: Bar,
    /// What came out, in `unit`.
    pub measured: f64,
    /// Of the bar and the figure.
    pub unit: &'static str,
    /// What the replaced Flink job (1.15, XA sink) does on such a machine; empty: it has no such thing.
    pub flink: &'static str,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    bar: f64,
    measured: f64,
    unit: &'a str,
    met: bool,
}

impl Figure {
    /// Whether the figure is on the right side of its bar.
    #[must_use]
    pub fn met(&self) -> bool {
        match self.bar {
            Bar::AtMost(most) => self.measured <= most,
            Bar::AtLeast(least) => self.measured >= least,
        }
    }

    fn bar_value(&self) -> f64 {
        match self.bar {
            Bar::AtMost(value) | Bar::AtLeast(value) => value,
        }
    }
}

/// The figures as one table.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["budget", "bar", "measured", "unit", "met", "Flink job"]);
    for figure in figures {
        let sign = if matches!(figure.bar, Bar::AtMost(_)) { "≤" } else { "≥" };
        table.add_row([
            figure.name.to_owned(),
            format!("{sign} {}", readable(figure.bar_value())),
            readable(figure.measured),
            figure.unit.to_owned(),
            if figure.met() { "yes" } else { "NO" }.to_owned(),
            figure.flink.to_owned(),
        ]);
    }
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Writes the figures as `[{name, bar, measured, unit, met}]`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, figures: &[Figure]) -> Result<()> {
    let rows: Vec<_> = figures
        .iter()
        .map(|figure| Row {
            name: figure.name,
            bar: figure.bar_value(),
            measured: figure.measured,
            unit: figure.unit,
            met: figure.met(),
        })
        .collect();
    let json = serde_json::to_string_pretty(&rows).context("failed to write JSON")?;
    std::fs::write(path, json + "\n").with_context(|| format!("failed to write {}", path.display()))
}

/// Thousands apart, and as many digits as mean something.
fn readable(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 1.0 {
        1
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left.is_multiple_of(3) && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_on_its_own_side() {
        let figure = |bar, measured| Figure { name: "x", bar, measured, unit: "s", flink: "" };
        assert!(figure(Bar::AtMost(1.0), 1.0).met() && !figure(Bar::AtMost(1.0), 1.1).met());
        assert!(figure(Bar::AtLeast(1.0), 1.0).met() && !figure(Bar::AtLeast(1.0), 0.9).met());
        assert!(!figure(Bar::AtLeast(1.0), f64::NAN).met(), "what could not be measured is not met");
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!([1_234_567.8, 650.0, 20.25, 0.5, 0.0].map(readable), ["1,234,568", "650", "20.2", "0.5", "0"]);
    }
}
