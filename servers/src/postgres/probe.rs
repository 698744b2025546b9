//! Asks a PostgreSQL whether it takes connections, as `pg_isready` does: a start-up message, and the first byte of the
//! answer. Not every package of PostgreSQL carries `pg_isready`.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 196_608;
/// SQLSTATE `cannot_connect_now`: starting, recovering, or stopping.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It asks for a password, or refuses this user for a reason of its own: it is up.
    Ready,
    /// Not yet, with the reason.
    NotYet(String),
}

pub(super) async fn ask(address: Ipv4Addr, port: u16, user: &str) -> Answer {
    match tokio::time::timeout(PROBE_LIMIT, exchange(address, port, user)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::NotYet(error.to_string()),
        Err(_) => Answer::NotYet("no answer".to_owned()),
    }
}

async fn exchange(address: Ipv4Addr, port: u16, user: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect((address, port)).await?;
    stream.write_all(&start_up_message(user)).await?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let [kind, length @ ..] = head;
    if kind != b'E' {
        return Ok(Answer::Ready);
    }
    let length = u64::from(u32::from_be_bytes(length)).saturating_sub(4).min(4096);
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body).await?;
    Ok(judge_error(&body))
}

fn start_up_message(user: &str) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", user, "database", "postgres", "application_name", "clamor-probe"] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).expect("a few constants");
    [length.to_be_bytes().to_vec(), body].concat()
}

/// An ErrorResponse is a list of fields, each a letter and text up to a NUL: `C` is the SQLSTATE, `M` the message.
fn judge_error(body: &[u8]) -> Answer {
    let field = |letter: u8| {
        body.split(|&byte| byte == 0)
            .filter_map(|field| field.split_first())
            .find(|(kind, _)| **kind == letter)
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
    };
    match field(b'C') {
        Some(code) if code != CANNOT_CONNECT_NOW => Answer::Ready,
        _ => Answer::NotYet(field(b'M').unwrap_or_else(|| "an error without a message".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_starting_up_is_not_ready() {
        let body = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        assert_eq!(judge_error(body), Answer::NotYet("the database system is starting up".to_owned()));
    }

    #[test]
    fn a_server_that_refuses_the_user_is_up() {
        assert_eq!(judge_error(b"SFATAL\0C28000\0Mrole does not exist\0\0"), Answer::Ready);
    }

    #[test]
    fn an_error_that_is_cut_off_is_not_ready() {
        assert_eq!(judge_error(b""), Answer::NotYet("an error without a message".to_owned()));
    }
}
