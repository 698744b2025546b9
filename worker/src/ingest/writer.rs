//! Writes one connection's lines, and asks for a sign of life where there is silence.

use super::connection::Connection;
use super::dial::Writer;
use super::heard::PingDue;
use super::metrics::Cause;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

/// Lines written at once.
const LINES_AT_ONCE: usize = 64;
/// A server that takes nothing for so long is not there.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How the tokens of our PINGs begin, so that twitch-irc's own are told from them.
const TOKEN: &str = "clamor-";

/// The token of an answer to one of our PINGs.
pub(super) fn token_of_pong(param: &str) -> Option<u64> {
    param.strip_prefix(TOKEN)?.parse().ok()
}

/// Runs until the connection is closed or fails.
pub(super) async fn run(connection: Arc<Connection>, mut lines: mpsc::Receiver<String>, mut writer: Writer) {
    let cause = write(&connection, &mut lines, &mut writer).await;
    connection.close(cause);
    // The server may be gone; that it is told is a courtesy.
    let _ = tokio::time::timeout(Duration::from_secs(1), writer.shutdown()).await;
}

async fn write(connection: &Connection, lines: &mut mpsc::Receiver<String>, writer: &mut Writer) -> Cause {
    let mut waiting = Vec::with_capacity(LINES_AT_ONCE);
    loop {
        let due = match connection.ping_due() {
            PingDue::At(due) => due,
            PingDue::TimedOut => return Cause::PingTimeout,
            PingDue::Now(token) => {
                waiting.push(format!("PING :{TOKEN}{token}\r\n"));
                if let Err(cause) = send(writer, &mut waiting).await {
                    return cause;
                }
                continue;
            }
        };
        tokio::select! {
            () = connection.closed() => return Cause::Released,
            _ = lines.recv_many(&mut waiting, LINES_AT_ONCE) => {
                if let Err(cause) = send(writer, &mut waiting).await {
                    return cause;
                }
            }
            () = connection.answered() => {}
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }
}

async fn send(writer: &mut Writer, lines: &mut Vec<String>) -> Result<(), Cause> {
    let bytes = lines.drain(..).collect::<String>();
    let written = async {
        writer.write_all(bytes.as_bytes()).await?;
        writer.flush().await
    };
    match tokio::time::timeout(WRITE_LIMIT, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Cause::Failed),
        Err(_) => Err(Cause::Stalled),
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocation::ClientId;
    use super::super::connection::Connections;
    use super::super::heard::SILENCE;
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    #[tokio::test]
    async fn lines_are_written_silence_is_pinged_and_no_answer_ends_the_connection() {
        let (connection, lines) = Connections::default().open(ClientId(1));
        let (ours, theirs) = tokio::io::duplex(1024);
        let task = tokio::spawn(run(Arc::clone(&connection), lines, Box::new(ours)));
        connection.send("JOIN #a\r\n".to_owned());
        let mut read = BufReader::new(theirs).lines();
        assert_eq!(read.next_line().await.unwrap().unwrap(), "JOIN #a");
        assert_eq!(read.next_line().await.unwrap().unwrap(), "PING :clamor-1");
        assert!(connection.ping_answered(token_of_pong("clamor-1").unwrap()).is_some());
        // Long before an answer would have been missed.
        let next = tokio::time::timeout(SILENCE * 4, read.next_line()).await.expect("silence is asked again");
        assert_eq!(next.unwrap().unwrap(), "PING :clamor-2");
        connection.close(Cause::Released);
        task.await.unwrap();
        assert_eq!(read.next_line().await.unwrap(), None);
    }

    #[test]
    fn only_our_own_tokens_are_ours() {
        assert_eq!(token_of_pong("clamor-12"), Some(12));
        assert_eq!(token_of_pong("tmi.twitch.tv"), None);
        assert_eq!(token_of_pong("clamor-x"), None);
    }
}
