//! Logs connections in, and tells a new transport whose it is.
//!
//! `Transport::new` takes nothing. But twitch-irc asks for the credentials and opens the transport in one task, one after
//! the other, and each client has credentials of its own: so what the transport must know is left here under the task's
//! id. Nothing is process-wide, and several ingest roles can run in one process.

use super::locked;
use super::shared::Context;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use thiserror::Error;
use tokio::task::Id;
use twitch_irc::login::{CredentialsPair, LoginCredentials};

static OPENING: LazyLock<Mutex<HashMap<Id, Arc<Context>>>> = LazyLock::new(Mutex::default);

/// What twitch-irc gets to see of the token: it logs what it sends. The writer puts the token in its place.
const WITHHELD: &str = "withheld";

/// One client's login.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) context: Arc<Context>,
}

/// This client is not needed any more.
#[derive(Debug, Error)]
#[error("this client leaves")]
pub(super) struct Leaving;

#[async_trait]
impl LoginCredentials for Login {
    type Error = Leaving;

    async fn get_credentials(&self) -> Result<CredentialsPair, Leaving> {
        if self.context.is_leaving() {
            // twitch-irc tries again at once, for ever. Here it waits for its end, and takes nobody's turn to connect.
            self.context.gone().await;
            return Err(Leaving);
        }
        if let Some(task) = tokio::task::try_id() {
            locked(&OPENING).insert(task, Arc::clone(&self.context));
        }
        let account = &self.context.shared.account;
        let token = account.token_file.is_some().then(|| WITHHELD.to_owned());
        Ok(CredentialsPair { login: account.nick.clone(), token })
    }
}

/// Whose transport this task opens.
pub(super) fn context_of_this_task() -> Option<Arc<Context>> {
    tokio::task::try_id().and_then(|task| locked(&OPENING).remove(&task))
}
