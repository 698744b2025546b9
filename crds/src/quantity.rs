//! Amounts of processor, memory and disk, as Kubernetes writes them: `500m`, `2`, `1Gi`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// An integer or a string such as `500m` or `1Gi`. YAML writes `cpu: 2` as an integer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A plain number.
    Integer(i64),
    /// A number with a suffix.
    Text(String),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Quantity {
    /// In whole base units (bytes, cores), rounded up; absent where the schema would have refused it or it is too large.
    #[must_use]
    pub fn whole(&self) -> Option<u64> {
        self.thousandths().map(|thousandths| thousandths.div_ceil(1_000))
    }

    /// In thousandths of a base unit (milli-cores).
    #[must_use]
    pub fn thousandths(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok()?.checked_mul(1_000),
            Self::Text(text) => thousandths_of(text),
        }
    }
}

fn thousandths_of(text: &str) -> Option<u64> {
    let end = text.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 3 || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    let thousandths = whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(fraction)?;
    match suffix {
        "m" => Some(thousandths.div_ceil(1_000)),
        "" => Some(thousandths),
        "k" => thousandths.checked_mul(1_000),
        "M" => thousandths.checked_mul(1_000_000),
        "G" => thousandths.checked_mul(1_000_000_000),
        "T" => thousandths.checked_mul(1_000_000_000_000),
        "Ki" => thousandths.checked_mul(1 << 10),
        "Mi" => thousandths.checked_mul(1 << 20),
        "Gi" => thousandths.checked_mul(1 << 30),
        "Ti" => thousandths.checked_mul(1 << 40),
        _ => None,
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    // A pattern beside int-or-string holds for strings only.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 20,
            "minimum": 0,
            "pattern": "^[0-9]+(\\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Quantity {
        Quantity::Text(text.to_owned())
    }

    #[test]
    fn suffixes_are_kubernetes_suffixes() {
        assert_eq!(text("1Gi").whole(), Some(1 << 30));
        assert_eq!(text("500m").thousandths(), Some(500));
        assert_eq!(text("500m").whole(), Some(1));
        assert_eq!(text("1.5Ki").whole(), Some(1_536));
        assert_eq!(text("2M").whole(), Some(2_000_000));
        assert_eq!(Quantity::Integer(2).thousandths(), Some(2_000));
    }

    #[test]
    fn what_is_no_amount_has_no_value() {
        for refused in ["", "Gi", "1.", ".5", "1.2345", "1Xi", "-1", "99999999999999999999", "1.2.3"] {
            assert_eq!(text(refused).whole(), None, "{refused}");
        }
        assert_eq!(Quantity::Integer(-1).whole(), None);
    }
}
