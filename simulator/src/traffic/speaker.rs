//! Who says what, from the seed: the same seed and rooms give the same lines in the same order, but for their times.
//!
//! Invariant: what a line counts for is known from how it was made. No two lines are one event: a message is deleted
//! once, and a room is punished or cleared once in a millisecond.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Zipf};

use super::people::Chatter;
use super::vocabulary::{PhraseError, Text, Vocabulary, rank};
use super::writer::{self, Parent, Place, Said};
use crate::config::{Config, Kinds};
use crate::ledger::{Message, Record, What};
use crate::pen::{Line, Pen};
use crate::town::{RoomChange, Spoken, Town, keeps_records};

/// A channel as the speaker knows it.
pub(super) struct Seat {
    room: usize,
    room_id: u64,
    login: String,
    recent: Option<Recent>,
    last_clear_ms: u64,
}

/// The last message of a channel: what replies answer, moderators delete and punish.
struct Recent {
    id: u128,
    author: u32,
    text: String,
}

/// Generates what is said.
pub(crate) struct Speaker {
    pub(super) rng: StdRng,
    pub(super) vocabulary: Vocabulary,
    pub(super) pen: Pen,
    pub(super) text: Text,
    kinds: Kinds,
    records: bool,
    chatters: u32,
    chatters_zipf: Zipf<f64>,
    exponent: f64,
    rooms_zipf: Option<Zipf<f64>>,
    shared_pairs: usize,
    pub(super) seats: Vec<Seat>,
    known: (usize, u64),
    /// How wrong the time of what is uttered is.
    pub(super) skew_ms: i64,
}

impl Speaker {
    pub(crate) fn new(config: &Config) -> Result<Self, PhraseError> {
        let chatters = config.chatters.max(1);
        let exponent = if config.zipf_exponent.is_finite() { config.zipf_exponent.max(0.0) } else { 1.0 };
        Ok(Self {
            rng: StdRng::seed_from_u64(config.seed),
            vocabulary: Vocabulary::new(&config.phrases, config.phrase_probability.clamp(0.0, 1.0))?,
            pen: Pen::new(),
            text: Text::default(),
            kinds: config.kinds,
            records: keeps_records(config.detail),
            chatters,
            chatters_zipf: Zipf::new(f64::from(chatters), exponent).expect("at least one, and no negative exponent"),
            exponent,
            rooms_zipf: None,
            shared_pairs: config.shared_pairs,
            seats: Vec::new(),
            known: (0, 0),
            skew_ms: 0,
        })
    }

    /// Learns of channels that were built or renamed since; whether there is any.
    pub(crate) fn look_around(&mut self, town: &Town) -> bool {
        let extent = town.extent();
        if extent != self.known {
            for (seat, (room, room_id, login)) in town.made_rooms().into_iter().enumerate() {
                match self.seats.get_mut(seat) {
                    Some(seat) => seat.login = login,
                    None => self.seats.push(Seat { room, room_id, login, recent: None, last_clear_ms: 0 }),
                }
            }
            self.known = extent;
            let count = u32::try_from(self.seats.len()).unwrap_or(u32::MAX);
            self.rooms_zipf = Zipf::new(f64::from(count), self.exponent).ok().filter(|_| count > 0);
        }
        !self.seats.is_empty()
    }

    /// Appends the lines of one utterance: mostly one, more where chat is shared or gifts are many.
    pub(crate) fn utter(&mut self, now_ms: u64, lines: &mut Vec<Spoken>) {
        let Some(zipf) = self.rooms_zipf else { return };
        let seat = rank(zipf.sample(&mut self.rng), self.seats.len());
        let draw = match self.kinds {
            Kinds::All => self.rng.random_range(0..1_000),
            Kinds::Messages => 1_000,
        };
        match draw {
            0..=5 => self.timeout(seat, now_ms, lines),
            6..=7 => self.ban(seat, now_ms, lines),
            8 => self.clear(seat, now_ms, lines),
            9..=13 => self.delete(seat, now_ms, lines),
            14 => self.change_room(seat, now_ms, lines),
            15..=33 => self.celebrate(seat, draw, now_ms, lines),
            _ => self.message(seat, now_ms, lines),
        }
    }

    pub(super) fn somebody(&mut self) -> u32 {
        let chatters = usize::try_from(self.chatters).unwrap_or(usize::MAX);
        u32::try_from(rank(self.chatters_zipf.sample(&mut self.rng), chatters)).unwrap_or(0)
    }

    /// A random UUID.
    pub(super) fn id(&mut self) -> u128 {
        let random: u128 = self.rng.random();
        random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62)
    }

    /// The channel that shares its chat with this one: 2 with 3, 4 with 5 … The two busiest talk alone.
    fn partner(&self, seat: usize) -> Option<usize> {
        let partner = seat ^ 1;
        let shares = (2..2 + 2 * self.shared_pairs).contains(&seat);
        (shares && partner < self.seats.len()).then_some(partner)
    }

    /// Says one event of shared chat in its room and, as a copy, in the partner's.
    pub(super) fn share(
        &mut self,
        seat: usize,
        now_ms: u64,
        what: What,
        lines: &mut Vec<Spoken>,
        write: impl Fn(&mut Pen, Place<'_>) -> Line,
    ) -> u128 {
        let id = self.id();
        let partner = self.partner(seat);
        let copy_id = partner.map(|_| self.id());
        let source = partner.map(|_| (id, self.seats[seat].room_id));
        self.say(seat, Moment { id, at_ms: now_ms, source }, Some(what), lines, &write);
        if let (Some(partner), Some(copy_id)) = (partner, copy_id) {
            let moment = Moment { id: copy_id, at_ms: now_ms, source };
            self.say(partner, moment, Some(What::Mirrored), lines, &write);
        }
        id
    }

    fn say(
        &mut self,
        seat: usize,
        moment: Moment,
        what: Option<What>,
        lines: &mut Vec<Spoken>,
        write: impl FnOnce(&mut Pen, Place<'_>) -> Line,
    ) {
        let Moment { id, at_ms, source } = moment;
        let sent_at_ms = at_ms.saturating_add_signed(self.skew_ms);
        let seat = &self.seats[seat];
        let place = Place { room_id: seat.room_id, login: &seat.login, id, sent_at_ms, source };
        let line = write(&mut self.pen, place);
        let what = what.filter(|_| self.records);
        let record = what.map(|what| Record { channel_id: seat.room_id, sent_at_ms, id, what });
        lines.push(Spoken { room: seat.room, line, record, change: None });
    }

    fn message(&mut self, seat: usize, now_ms: u64, lines: &mut Vec<Spoken>) {
        let author_number = self.somebody();
        let author = Chatter::numbered(author_number);
        let replies = self.rng.random_ratio(1, 12);
        let recent = self.seats[seat].recent.take();
        let parent = recent.as_ref().filter(|_| replies).map(|recent| (recent, Chatter::numbered(recent.author)));
        let parent = parent.filter(|(_, author)| !self.vocabulary.clashes(&author.display_name));
        let opening = parent.as_ref().map_or_else(String::new, |(_, author)| format!("@{}", author.display_name));

        let mut text = std::mem::take(&mut self.text);
        self.vocabulary.write(&mut self.rng, &opening, &mut text);
        let bits = self.cheer(&mut text);
        let emotes = self.vocabulary.emotes_tag(&text);
        let first = self.rng.random_ratio(1, 80);
        let said = Said {
            author: &author,
            text: &text.text,
            emotes: &emotes,
            bits,
            action: self.rng.random_ratio(1, 50),
            first,
            returning: !first && self.rng.random_ratio(1, 100),
            parent: parent.as_ref().map(|(recent, author)| Parent { id: recent.id, author, text: &recent.text }),
        };
        let what = self.count(&author, &text, bits, first);
        let id = self.share(seat, now_ms, what, lines, |pen, place| writer::message(pen, place, &said));

        let mut kept = recent.map_or_else(String::new, |recent| recent.text);
        kept.clone_from(&text.text);
        self.seats[seat].recent = Some(Recent { id, author: author_number, text: kept });
        self.text = text;
    }

    fn count(&self, author: &Chatter, text: &Text, bits: u64, first: bool) -> What {
        if !self.records {
            return What::Message(Message::default());
        }
        What::Message(Message {
            chatter_id: author.id,
            characters: text.characters,
            words: text.words,
            bits,
            first,
            emotes: self.vocabulary.emotes(text),
            phrases: text.phrases.clone(),
        })
    }

    /// Sometimes bits are cheered; the text says how many.
    fn cheer(&mut self, text: &mut Text) -> u64 {
        if !self.rng.random_ratio(1, 60) {
            return 0;
        }
        let bits = [1, 50, 100, 500, 1_000, 10_000][self.rng.random_range(0..6)];
        let word = format!("Cheer{bits}");
        if self.vocabulary.clashes(&word) {
            return 0;
        }
        text.word(&word);
        bits
    }

    fn timeout(&mut self, seat: usize, now_ms: u64, lines: &mut Vec<Spoken>) {
        let seconds = [1, 60, 600, 86_400][self.rng.random_range(0..4)];
        self.punish(seat, Some(seconds), now_ms, lines);
    }

    fn ban(&mut self, seat: usize, now_ms: u64, lines: &mut Vec<Spoken>) {
        self.punish(seat, None, now_ms, lines);
    }

    fn punish(&mut self, seat: usize, seconds: Option<u64>, now_ms: u64, lines: &mut Vec<Spoken>) {
        let author = self.seats[seat].recent.as_ref().map(|recent| recent.author);
        let target = Chatter::numbered(author.unwrap_or_else(|| self.somebody()));
        let what = if seconds.is_some() { What::Timeout } else { What::Ban };
        let at_ms = self.seats[seat].next_clear_ms(now_ms);
        self.say(seat, Moment::at(at_ms), Some(what), lines, |pen, place| {
            writer::punishment(pen, place, &target, seconds)
        });
    }

    fn clear(&mut self, seat: usize, now_ms: u64, lines: &mut Vec<Spoken>) {
        let at_ms = self.seats[seat].next_clear_ms(now_ms);
        self.say(seat, Moment::at(at_ms), Some(What::Clear), lines, writer::clear);
    }

    fn delete(&mut self, seat: usize, now_ms: u64, lines: &mut Vec<Spoken>) {
        let Some(recent) = self.seats[seat].recent.take() else {
            return self.message(seat, now_ms, lines);
        };
        let author = Chatter::numbered(recent.author);
        self.say(seat, Moment::at(now_ms), Some(What::Deletion), lines, |pen, place| {
            writer::deletion(pen, place, &author, recent.id, &recent.text)
        });
    }

    /// A setting changes: everybody gets a ROOMSTATE, and a NOTICE that says it in words.
    fn change_room(&mut self, seat: usize, now_ms: u64, lines: &mut Vec<Spoken>) {
        let on = self.rng.random_bool(0.5);
        let (change, setting, msg_id, text) = match (self.rng.random_range(0..5), on) {
            (0, true) => (RoomChange::EmoteOnly(true), "emote-only=1", "emote_only_on", "now in emote-only mode."),
            (0, false) => {
                (RoomChange::EmoteOnly(false), "emote-only=0", "emote_only_off", "no longer in emote-only mode.")
            }
            (1, true) => (
                RoomChange::FollowersOnly(10),
                "followers-only=10",
                "followers_on",
                "now in 10 minutes followers-only mode.",
            ),
            (1, false) => (
                RoomChange::FollowersOnly(-1),
                "followers-only=-1",
                "followers_off",
                "no longer in followers-only mode.",
            ),
            (2, true) => (RoomChange::UniqueOnly(true), "r9k=1", "r9k_on", "now in unique-chat mode."),
            (2, false) => (RoomChange::UniqueOnly(false), "r9k=0", "r9k_off", "no longer in unique-chat mode."),
            (3, true) => (RoomChange::Slow(30), "slow=30", "slow_on", "now in slow mode."),
            (3, false) => (RoomChange::Slow(0), "slow=0", "slow_off", "no longer in slow mode."),
            (_, true) => (RoomChange::SubscribersOnly(true), "subs-only=1", "subs_on", "now in subscribers-only mode."),
            (_, false) => {
                (RoomChange::SubscribersOnly(false), "subs-only=0", "subs_off", "no longer in subscribers-only mode.")
            }
        };
        self.say(seat, Moment::at(now_ms), Some(What::RoomChange), lines, |pen, place| {
            writer::room_state(pen, place, setting)
        });
        if let Some(spoken) = lines.last_mut() {
            spoken.change = Some(change);
        }
        let text = format!("This room is {text}");
        self.say(seat, Moment::at(now_ms), None, lines, |pen, place| writer::room_notice(pen, place, msg_id, &text));
    }
}

impl Seat {
    /// Twitch knows such an event by its room, target and time alone: so no two share their millisecond.
    fn next_clear_ms(&mut self, now_ms: u64) -> u64 {
        self.last_clear_ms = now_ms.max(self.last_clear_ms + 1);
        self.last_clear_ms
    }
}

/// A line's id (0: it has none), time, and original in shared chat.
#[derive(Debug, Clone, Copy)]
struct Moment {
    id: u128,
    at_ms: u64,
    source: Option<(u128, u64)>,
}

impl Moment {
    fn at(at_ms: u64) -> Self {
        Self { id: 0, at_ms, source: None }
    }
}
