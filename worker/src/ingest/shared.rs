//! What all connections of one ingest role share.

use super::allocation::ClientId;
use super::connection::{Connection, Connections};
use super::dial::Dialer;
use super::joins::Joins;
use super::metrics::{Cause, IngestMetrics};
use super::news::{News, What};
use super::options::TwitchOptions;
use super::outlet::Outlet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Who logs in.
pub(super) struct Account {
    pub(super) nick: String,
    pub(super) token_file: Option<PathBuf>,
}

impl Account {
    pub(super) fn new(options: &TwitchOptions) -> Self {
        // Twitch lets anybody read as justinfan and a number.
        let anonymous = || format!("justinfan{}", rand::random_range(10_000..=999_999));
        Self { nick: options.login.clone().unwrap_or_else(anonymous), token_file: options.token_file.clone() }
    }

    /// The line that logs in; `None` where the token cannot be read.
    pub(super) fn pass(&self) -> Result<String, String> {
        let Some(path) = &self.token_file else {
            return Ok(String::new());
        };
        let token = std::fs::read_to_string(path)
            .map_err(|error| format!("failed to read --twitch-token-file {}: {error}", path.display()))?;
        let token = token.trim();
        Ok(format!("PASS oauth:{}\r\n", token.strip_prefix("oauth:").unwrap_or(token)))
    }
}

/// What all connections of one ingest role share.
pub(super) struct Shared {
    pub(super) account: Account,
    pub(super) dialer: Dialer,
    pub(super) connections: Arc<Connections>,
    pub(super) joins: Arc<Joins>,
    pub(super) outlet: Arc<Outlet>,
    pub(super) metrics: Arc<IngestMetrics>,
    pub(super) news: mpsc::Sender<News>,
}

impl Shared {
    /// Tells the hub. Where it cannot follow, the connection is closed rather than something missed.
    pub(super) fn tell(&self, connection: &Connection, what: What) {
        let news = News { connection: connection.id, client: connection.client, what };
        if self.news.try_send(news).is_err() {
            connection.close(Cause::Stalled);
        }
    }
}

/// One client, as its transports see it.
pub(super) struct Context {
    pub(super) client: ClientId,
    pub(super) shared: Arc<Shared>,
    /// It shall open no connection any more.
    leaving: CancellationToken,
    /// Its last handle is dropped.
    gone: CancellationToken,
}

impl Context {
    pub(super) fn new(client: ClientId, shared: Arc<Shared>) -> Self {
        Self { client, shared, leaving: CancellationToken::new(), gone: CancellationToken::new() }
    }

    /// This client is replaced: when its connection ends, it is not opened again.
    pub(super) fn leave(&self) {
        self.leaving.cancel();
    }

    /// This client's last handle is dropped.
    pub(super) fn go(&self) {
        self.leaving.cancel();
        self.gone.cancel();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Ready when the last handle is dropped.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Context").field("client", &self.client).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_account_somebody_anonymous_reads() {
        let account = Account::new(&TwitchOptions::default());
        assert!(account.nick.starts_with("justinfan"));
        assert_eq!(account.pass(), Ok(String::new()));
    }

    #[test]
    fn a_token_is_read_with_or_without_its_prefix_and_a_missing_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut account = Account { nick: "me".to_owned(), token_file: Some(file.path().to_owned()) };
        for token in ["abc", "oauth:abc\n"] {
            std::fs::write(file.path(), token).unwrap();
            assert_eq!(account.pass().unwrap(), "PASS oauth:abc\r\n");
        }
        account.token_file = Some("/nowhere/token".into());
        assert!(account.pass().unwrap_err().contains("--twitch-token-file /nowhere/token"));
    }
}
