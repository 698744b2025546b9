//! Periods as people write them: a whole number and one unit.
//!
//! Not Kubernetes' `duration` format: its parsers disagree about days, and retention is thought of in days.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};
use thiserror::Error;

/// How long data is kept: whole hours or days, such as `36h` or `90d`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Retention(pub String);

/// How long data is kept where it is kept in whole days, such as `90d`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Days(pub String);

/// A pause: whole seconds, minutes or hours, such as `90s` or `5m`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pause(pub String);

/// A period that the schema would have refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is not a period: write a whole number and a unit, such as 90s, 5m, 36h or 90d")]
pub struct PeriodError(pub String);

/// Parses `90s`, `5m`, `36h` or `90d`.
///
/// # Errors
/// Where it is anything else, or over 99,999 of its unit.
pub fn parse(text: &str) -> Result<Duration, PeriodError> {
    let refused = || PeriodError(text.to_owned());
    let unit = text.chars().last().ok_or_else(refused)?;
    let seconds_per_unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.len() > 5 || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused());
    }
    let number = u64::from_str(digits).map_err(|_| refused())?;
    Ok(Duration::from_secs(number * seconds_per_unit))
}

fn schema(units: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 6,
        "x-kubernetes-validations": [
            { "rule": format!("self.matches('^[1-9][0-9]{{0,4}}[{units}]$')"), "message": message }
        ]
    })
}

macro_rules! period {
    ($name:ident, $units:literal, $message:literal) => {
        impl $name {
            /// As a duration.
            ///
            /// # Errors
            /// Where the object did not pass the schema.
            pub fn duration(&self) -> Result<Duration, PeriodError> {
                parse(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schema($units, $message)
            }
        }
    };
}

period!(Retention, "hd", "write a whole number of hours or days, such as 36h or 90d");
period!(Days, "d", "write a whole number of days, such as 90d");
period!(Pause, "smh", "write a whole number of seconds, minutes or hours, such as 90s or 5m");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_whole_number_and_a_unit() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(Retention("36h".into()).duration(), Ok(Duration::from_secs(36 * 3_600)));
        assert_eq!(Days("90d".into()).duration(), Ok(Duration::from_secs(90 * 86_400)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "d", "0d", "01d", "1.5h", "-1d", "100000d", "1w", "1 d", "1é", "é"] {
            assert_eq!(parse(text), Err(PeriodError(text.to_owned())), "{text}");
        }
    }
}
