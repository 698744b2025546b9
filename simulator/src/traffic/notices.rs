//! USERNOTICEs: subs, gifts, raids, announcements and the rarer ones.

use rand::RngExt as _;

use super::people::Chatter;
use super::speaker::Speaker;
use super::vocabulary::Text;
use super::writer::{self, Notice};
use crate::ledger::What;
use crate::town::Spoken;

type Params = Vec<(&'static str, String)>;

impl Speaker {
    /// One of them, by `draw` (15 to 33, per mille of all utterances).
    pub(super) fn celebrate(&mut self, seat: usize, draw: u32, now_ms: u64, lines: &mut Vec<Spoken>) {
        let author = Chatter::numbered(self.somebody());
        match draw {
            15..=18 => self.sub(seat, &author, now_ms, lines),
            19..=23 => self.resub(seat, &author, now_ms, lines),
            24..=25 => self.gift_one(seat, &author, now_ms, lines),
            26 => self.gift_many(seat, &author, now_ms, lines),
            27..=28 => self.raid(seat, &author, now_ms, lines),
            29..=30 => self.announce(seat, &author, now_ms, lines),
            31 => self.upgrade(seat, &author, now_ms, lines),
            32 => self.pay_forward(seat, &author, now_ms, lines),
            _ => self.badge_or_milestone(seat, &author, now_ms, lines),
        }
    }

    fn notify(&mut self, seat: usize, now_ms: u64, what: What, lines: &mut Vec<Spoken>, notice: &Notice<'_>) {
        self.share(seat, now_ms, what, lines, |pen, place| writer::notice(pen, place, notice));
    }

    fn plan(&mut self) -> &'static str {
        ["Prime", "1000", "1000", "2000", "3000"][self.rng.random_range(0..5)]
    }

    fn sub(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let plan = self.plan();
        let params = sub_params(1, plan);
        let system = format!("{} subscribed with {plan}.", author.display_name);
        let notice = Notice { author, msg_id: "sub", params: &params, system: &system, text: "", emotes: "" };
        self.notify(seat, now_ms, What::Sub, lines, &notice);
    }

    fn resub(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let plan = self.plan();
        let months = self.rng.random_range(2..=96);
        let params = sub_params(months, plan);
        let system =
            format!("{0} subscribed with {plan}. They've subscribed for {months} months!", author.display_name);
        let mut text = Text::default();
        if self.rng.random_bool(0.7) {
            self.vocabulary.write(&mut self.rng, "", &mut text);
        }
        let emotes = self.vocabulary.emotes_tag(&text);
        let notice =
            Notice { author, msg_id: "resub", params: &params, system: &system, text: &text.text, emotes: &emotes };
        self.notify(seat, now_ms, What::Sub, lines, &notice);
    }

    fn gift_one(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let plan = self.plan_of_gift();
        let origin = self.origin();
        self.gift(seat, author, plan, &origin, now_ms, lines);
    }

    /// The announcement first, then one notice a recipient, all of one origin.
    fn gift_many(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let plan = self.plan_of_gift();
        let origin = self.origin();
        let gifts = [1_u32, 5, 10, 20][self.rng.random_range(0..4)];
        let params: Params = vec![
            ("community-gift-id", origin.clone()),
            ("mass-gift-count", gifts.to_string()),
            ("origin-id", origin.clone()),
            ("sender-count", (gifts + 3).to_string()),
            ("sub-plan", plan.to_owned()),
        ];
        let system = format!("{} is gifting {gifts} Tier 1 Subs to the community!", author.display_name);
        let notice =
            Notice { author, msg_id: "submysterygift", params: &params, system: &system, text: "", emotes: "" };
        self.notify(seat, now_ms, What::MysteryGift, lines, &notice);
        for _ in 0..gifts {
            self.gift(seat, author, plan, &origin, now_ms, lines);
        }
    }

    fn gift(
        &mut self,
        seat: usize,
        author: &Chatter,
        plan: &'static str,
        origin: &str,
        now_ms: u64,
        lines: &mut Vec<Spoken>,
    ) {
        let recipient = Chatter::numbered(self.somebody());
        let params: Params = vec![
            ("gift-months", "1".to_owned()),
            ("months", self.rng.random_range(1..=24).to_string()),
            ("origin-id", origin.to_owned()),
            ("recipient-display-name", recipient.display_name.clone()),
            ("recipient-id", recipient.id.to_string()),
            ("recipient-user-name", recipient.login.clone()),
            ("sender-count", "0".to_owned()),
            ("sub-plan", plan.to_owned()),
            ("sub-plan-name", "Channel Subscription".to_owned()),
        ];
        let system = format!("{} gifted a Tier 1 sub to {}!", author.display_name, recipient.display_name);
        let notice = Notice { author, msg_id: "subgift", params: &params, system: &system, text: "", emotes: "" };
        self.notify(seat, now_ms, What::Gift, lines, &notice);
    }

    fn plan_of_gift(&mut self) -> &'static str {
        ["1000", "2000", "3000"][self.rng.random_range(0..3)]
    }

    fn origin(&mut self) -> String {
        let id = self.id();
        format!("{id:032x}")
    }

    fn raid(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let raiders = self.rng.random_range(1..=20_000);
        let params: Params = vec![
            ("displayName", author.display_name.clone()),
            ("login", author.login.clone()),
            ("profileImageURL", "https://example.org/profile-70x70.png".to_owned()),
            ("viewerCount", raiders.to_string()),
        ];
        let system = format!("{raiders} raiders from {} have joined!", author.display_name);
        let notice = Notice { author, msg_id: "raid", params: &params, system: &system, text: "", emotes: "" };
        self.notify(seat, now_ms, What::Raid, lines, &notice);
    }

    fn announce(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let mut text = Text::default();
        self.vocabulary.write(&mut self.rng, "", &mut text);
        let emotes = self.vocabulary.emotes_tag(&text);
        let params: Params = vec![("color", "PRIMARY".to_owned())];
        let notice =
            Notice { author, msg_id: "announcement", params: &params, system: "", text: &text.text, emotes: &emotes };
        self.notify(seat, now_ms, What::Announcement, lines, &notice);
    }

    fn upgrade(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let giver = Chatter::numbered(self.somebody());
        let name = &author.display_name;
        let (msg_id, params, system): (_, Params, _) = if self.rng.random_bool(0.5) {
            let params = vec![("sender-login", giver.login), ("sender-name", giver.display_name.clone())];
            let system = format!("{name} is continuing the Gift Sub they got from {}!", giver.display_name);
            ("giftpaidupgrade", params, system)
        } else {
            let params = vec![("sub-plan", "1000".to_owned())];
            ("primepaidupgrade", params, format!("{name} converted from a Prime sub to a Tier 1 sub!"))
        };
        let notice = Notice { author, msg_id, params: &params, system: &system, text: "", emotes: "" };
        self.notify(seat, now_ms, What::OtherNotice, lines, &notice);
    }

    fn pay_forward(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let giver = Chatter::numbered(self.somebody());
        let system =
            format!("{} is paying forward the Gift they got from {}!", author.display_name, giver.display_name);
        let params: Params = vec![
            ("prior-gifter-anonymous", "false".to_owned()),
            ("prior-gifter-display-name", giver.display_name),
            ("prior-gifter-id", giver.id.to_string()),
            ("prior-gifter-user-name", giver.login),
        ];
        let msg_id = "communitypayforward";
        let notice = Notice { author, msg_id, params: &params, system: &system, text: "", emotes: "" };
        self.notify(seat, now_ms, What::OtherNotice, lines, &notice);
    }

    fn badge_or_milestone(&mut self, seat: usize, author: &Chatter, now_ms: u64, lines: &mut Vec<Spoken>) {
        let name = &author.display_name;
        let (msg_id, params, system): (_, Params, _) = if self.rng.random_bool(0.5) {
            let params = vec![("threshold", "1000".to_owned())];
            ("bitsbadgetier", params, format!("{name} earned a new 1000 Bits badge!"))
        } else {
            let id = self.origin();
            let params = vec![
                ("category", "watch-streak".to_owned()),
                ("copoReward", "350".to_owned()),
                ("id", id),
                ("value", "3".to_owned()),
            ];
            ("viewermilestone", params, format!("{name} watched 3 consecutive streams and sparked a watch streak!"))
        };
        let notice = Notice { author, msg_id, params: &params, system: &system, text: "", emotes: "" };
        self.notify(seat, now_ms, What::OtherNotice, lines, &notice);
    }
}

fn sub_params(months: u32, plan: &'static str) -> Params {
    vec![
        ("cumulative-months", months.to_string()),
        ("months", "0".to_owned()),
        ("multimonth-duration", "1".to_owned()),
        ("multimonth-tenure", "0".to_owned()),
        ("should-share-streak", "0".to_owned()),
        ("sub-plan", plan.to_owned()),
        ("sub-plan-name", "Channel Subscription".to_owned()),
        ("was-gifted", "false".to_owned()),
    ]
}
