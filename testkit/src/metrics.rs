//! What a `/metrics` page says, by name and labels.

use std::collections::BTreeMap;

/// One reading of a `/metrics` page.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Reads the text format of Prometheus; lines that are none of it are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter(|line| !line.starts_with('#')).filter_map(parse_sample).collect() }
    }

    /// The sum of all samples of this name that carry these labels; `None` when there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matching: Vec<f64> = self.matching(name, labels).map(|sample| sample.value).collect();
        (!matching.is_empty()).then(|| matching.iter().sum())
    }

    /// The same, with 0 where there is no such sample: for counters that appear with their first event.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels).unwrap_or(0.0)
    }

    /// The buckets of a histogram: upper end and how many samples are at or below it, over all labels.
    #[must_use]
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.matching(&format!("{name}_bucket"), &[]) {
            let Some(end) = sample.labels.get("le").and_then(|end| end.parse::<f64>().ok()) else {
                continue;
            };
            match buckets.iter_mut().find(|(known, _)| *known == end) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((end, sample.value)),
            }
        }
        buckets
    }

    /// The names on the page, each once.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.samples.iter().map(|sample| sample.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has = |(label, value): &(&str, &str)| sample.labels.get(*label).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        })
    }
}

/// `name{label="value",…} 1.5`, perhaps followed by a time.
fn parse_sample(line: &str) -> Option<Sample> {
    let (name, labels, rest) = match line.find('{') {
        Some(open) => {
            let (labels, rest) = parse_labels(&line[open + 1..])?;
            (&line[..open], labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, BTreeMap::new(), rest)
        }
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels after `{`, and what follows the `}`.
fn parse_labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (label, rest) = text.split_once("=\"")?;
        let (value, rest) = parse_value(rest)?;
        labels.insert(label.to_owned(), value);
        text = rest;
    }
}

/// A value up to its closing quote, and what follows that.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP clamor_ingest_messages_total Messages.
# TYPE clamor_ingest_messages_total counter
clamor_ingest_messages_total{kind="message",shard="0"} 41
clamor_ingest_messages_total{kind="message",shard="1"} 1
clamor_ingest_messages_total{kind="raid, \"big\"",shard="0"} 2
process_start_time_seconds 1.7e9
clamor_commit_seconds_bucket{le="+Inf"} 7 1700000000000
"#;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let scrape = Scrape::parse(PAGE);
        assert_eq!(scrape.sum("clamor_ingest_messages_total", &[("kind", "message")]), Some(42.0));
        assert_eq!(scrape.sum("clamor_ingest_messages_total", &[("kind", "raid, \"big\"")]), Some(2.0));
        assert_eq!(scrape.sum("process_start_time_seconds", &[]), Some(1.7e9));
        assert_eq!(scrape.sum("clamor_commit_seconds_bucket", &[("le", "+Inf")]), Some(7.0));
    }

    #[test]
    fn an_absent_sample_is_none_or_nothing() {
        let scrape = Scrape::parse(PAGE);
        assert_eq!(scrape.sum("clamor_ingest_messages_total", &[("kind", "sub")]), None);
        assert!(scrape.count("clamor_other_total", &[]).abs() < f64::EPSILON);
        assert_eq!(scrape.names().len(), 3);
    }
}
