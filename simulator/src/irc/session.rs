//! What is said to a client and what it may: the protocol without sockets.
//!
//! Twitch's own order and words: <https://dev.twitch.tv/docs/irc/>.

use super::request::Request;
use crate::town::is_login;

/// What a client's line leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Say this to it.
    Send(String),
    /// It now has a name.
    LoggedIn,
    Join(String),
    Part(String),
    /// It answered our PING.
    Alive,
    /// It goes.
    Quit,
    /// Its login is refused.
    Refuse,
}

/// Capabilities that Twitch has.
const CAPABILITIES: [&str; 3] = ["twitch.tv/commands", "twitch.tv/membership", "twitch.tv/tags"];

/// One client's state.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) tags: bool,
    pub(crate) commands: bool,
    membership: bool,
    pass: Option<String>,
    nick: Option<String>,
}

impl Session {
    /// The client's name, once it has logged in.
    pub(crate) fn nick(&self) -> Option<&str> {
        self.nick.as_deref()
    }

    pub(crate) fn on_line(&mut self, line: &[u8]) -> Vec<Reaction> {
        let Some(request) = Request::parse(line) else {
            return Vec::new();
        };
        match request.command.as_str() {
            "CAP" => self.capabilities(&request),
            "PASS" => {
                self.pass = Some(request.param(0).to_owned());
                Vec::new()
            }
            "NICK" => self.log_in(&request.param(0).to_ascii_lowercase()),
            "PING" => vec![send(format!(":tmi.twitch.tv PONG tmi.twitch.tv :{}", request.param(0)))],
            "PONG" => vec![Reaction::Alive],
            "QUIT" => vec![Reaction::Quit],
            "JOIN" if self.nick.is_some() => channels(&request).map(Reaction::Join).collect(),
            "PART" if self.nick.is_some() => channels(&request).map(Reaction::Part).collect(),
            // Reading is what this Twitch is for: what clients say goes nowhere.
            "JOIN" | "PART" | "PRIVMSG" | "USER" => Vec::new(),
            other => {
                let nick = self.nick().unwrap_or("you");
                vec![send(format!(":tmi.twitch.tv 421 {nick} {other} :Unknown command"))]
            }
        }
    }

    fn capabilities(&mut self, request: &Request) -> Vec<Reaction> {
        match request.param(0).to_ascii_uppercase().as_str() {
            "LS" => vec![send(format!(":tmi.twitch.tv CAP * LS :{}", CAPABILITIES.join(" ")))],
            "REQ" => {
                let wanted = request.param(1);
                if !wanted.split_ascii_whitespace().all(|wanted| CAPABILITIES.contains(&wanted)) {
                    return vec![send(format!(":tmi.twitch.tv CAP * NAK :{wanted}"))];
                }
                for capability in wanted.split_ascii_whitespace() {
                    match capability {
                        "twitch.tv/tags" => self.tags = true,
                        "twitch.tv/commands" => self.commands = true,
                        _ => self.membership = true,
                    }
                }
                vec![send(format!(":tmi.twitch.tv CAP * ACK :{wanted}"))]
            }
            _ => Vec::new(),
        }
    }

    fn log_in(&mut self, nick: &str) -> Vec<Reaction> {
        if self.nick.is_some() {
            return Vec::new();
        }
        let anonymous = nick.strip_prefix("justinfan").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
        if !anonymous && !self.pass.as_deref().is_some_and(|pass| pass.starts_with("oauth:")) {
            return vec![send(":tmi.twitch.tv NOTICE * :Improperly formatted auth".to_owned()), Reaction::Refuse];
        }
        if !is_login(nick) {
            return vec![send(":tmi.twitch.tv NOTICE * :Invalid NICK".to_owned()), Reaction::Refuse];
        }
        self.nick = Some(nick.to_owned());
        let mut reactions = vec![Reaction::LoggedIn];
        reactions.extend(welcome(nick).map(Reaction::Send));
        // The state of an account; an anonymous reader has none.
        if !anonymous && self.commands {
            let tags = "@badge-info=;badges=;color=;display-name=;emote-sets=0;user-id=1;user-type= ";
            let tags = if self.tags { tags } else { "" };
            reactions.push(send(format!("{tags}:tmi.twitch.tv GLOBALUSERSTATE")));
        }
        reactions
    }
}

fn send(line: String) -> Reaction {
    Reaction::Send(line)
}

fn welcome(nick: &str) -> impl Iterator<Item = String> {
    [
        ("001", ":Welcome, GLHF!"),
        ("002", ":Your host is tmi.twitch.tv"),
        ("003", ":This server is rather new"),
        ("004", ":-"),
        ("375", ":-"),
        ("372", ":You are in a maze of twisty passages, all alike."),
        ("376", ":>"),
    ]
    .into_iter()
    .map(move |(number, text)| format!(":tmi.twitch.tv {number} {nick} {text}"))
}

/// The logins of `#a,#b`; what is no channel's name is left out.
fn channels(request: &Request) -> impl Iterator<Item = String> {
    let names: Vec<String> = request
        .param(0)
        .split(',')
        .filter_map(|name| name.strip_prefix('#'))
        .map(str::to_ascii_lowercase)
        .filter(|login| is_login(login))
        .collect();
    names.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(reactions: Vec<Reaction>) -> Vec<String> {
        let text = |reaction| {
            if let Reaction::Send(line) = reaction { Some(line) } else { None }
        };
        reactions.into_iter().filter_map(text).collect()
    }

    #[test]
    fn an_anonymous_reader_is_welcomed_without_a_password() {
        let mut session = Session::default();
        let lines = sent(session.on_line(b"NICK justinfan123\r\n"));
        assert_eq!(lines.first().unwrap(), ":tmi.twitch.tv 001 justinfan123 :Welcome, GLHF!");
        assert_eq!(lines.last().unwrap(), ":tmi.twitch.tv 376 justinfan123 :>");
        assert_eq!(session.nick(), Some("justinfan123"));
    }

    #[test]
    fn an_account_needs_a_token_and_gets_its_state() {
        let mut session = Session::default();
        assert!(session.on_line(b"NICK somebody").contains(&Reaction::Refuse));
        session.on_line(b"CAP REQ :twitch.tv/commands twitch.tv/tags");
        session.on_line(b"PASS oauth:abc");
        let lines = sent(session.on_line(b"NICK somebody"));
        assert!(lines.last().unwrap().ends_with("GLOBALUSERSTATE"), "{lines:?}");
    }

    #[test]
    fn capabilities_are_granted_all_or_none() {
        let mut session = Session::default();
        assert_eq!(
            sent(session.on_line(b"CAP REQ :twitch.tv/tags nonsense")),
            [":tmi.twitch.tv CAP * NAK :twitch.tv/tags nonsense"]
        );
        assert!(!session.tags);
        assert_eq!(sent(session.on_line(b"CAP REQ :twitch.tv/tags")), [":tmi.twitch.tv CAP * ACK :twitch.tv/tags"]);
        assert!(session.tags && !session.commands);
    }

    #[test]
    fn channels_are_joined_by_lists_and_only_after_login() {
        let mut session = Session::default();
        assert!(session.on_line(b"JOIN #a").is_empty());
        session.on_line(b"NICK justinfan1");
        let joins = session.on_line(b"JOIN #A,b,#c d,#,#d-d");
        assert_eq!(joins, [Reaction::Join("a".to_owned()), Reaction::Join("c".to_owned())]);
    }

    #[test]
    fn a_ping_is_answered_with_its_own_words() {
        let answer = sent(Session::default().on_line(b"PING :hello you"));
        assert_eq!(answer, [":tmi.twitch.tv PONG tmi.twitch.tv :hello you"]);
    }
}
