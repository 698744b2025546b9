//! A client's line, taken apart; whatever a client sends, this answers.

/// A command with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// In upper case.
    pub(crate) command: String,
    pub(crate) params: Vec<String>,
}

/// More are not read.
const MOST_PARAMS: usize = 15;

impl Request {
    /// Nothing for an empty line. Bytes that are not UTF-8 are replaced.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(line);
        let mut rest = text.trim_end_matches(['\r', '\n']).trim_start_matches(' ');
        for marker in ['@', ':'] {
            if rest.starts_with(marker) {
                rest = rest.split_once(' ').map_or("", |(_, rest)| rest).trim_start_matches(' ');
            }
        }
        let (command, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if command.is_empty() {
            return None;
        }
        let mut params = Vec::new();
        while !rest.is_empty() && params.len() < MOST_PARAMS {
            if let Some(trailing) = rest.strip_prefix(':') {
                params.push(trailing.to_owned());
                break;
            }
            let (param, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            if !param.is_empty() {
                params.push(param.to_owned());
            }
            rest = tail;
        }
        Some(Self { command: command.to_ascii_uppercase(), params })
    }

    pub(crate) fn param(&self, at: usize) -> &str {
        self.params.get(at).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_apart() {
        let request = Request::parse(b"@a=b :nick cap REQ :twitch.tv/tags twitch.tv/commands\r\n").unwrap();
        assert_eq!(request.command, "CAP");
        assert_eq!(request.params, ["REQ", "twitch.tv/tags twitch.tv/commands"]);
        assert_eq!(Request::parse(b"JOIN #a,#b").unwrap().params, ["#a,#b"]);
    }

    #[test]
    fn garbage_is_a_request_or_nothing() {
        for garbage in [&b""[..], b" ", b"@", b":", b"@ :", b"\xff\xfe", b"\0\0\0", b": :", b"JOIN", b"JOIN :"] {
            let _ = Request::parse(garbage);
        }
        assert_eq!(Request::parse(b"\r\n"), None);
    }
}
