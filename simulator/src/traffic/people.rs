//! The people who write: each a function of their number, so a million cost nothing.

/// User ids begin above this.
const FIRST_CHATTER_ID: u64 = 500_000_000;

/// One chatter.
#[derive(Debug, Clone)]
pub(crate) struct Chatter {
    pub(crate) id: u64,
    pub(crate) login: String,
    pub(crate) display_name: String,
    pub(crate) color: u32,
    /// Months; 0: no subscriber.
    pub(crate) months: u64,
    pub(crate) moderator: bool,
    pub(crate) vip: bool,
    pub(crate) turbo: bool,
}

impl Chatter {
    pub(crate) fn numbered(number: u32) -> Self {
        let traits = scatter(number);
        let login = format!("chatter_{number}");
        let display_name = match traits % 16 {
            // Names in other scripts have nothing in common with the login.
            0 => format!("視聴者{number}"),
            1..=5 => login.clone(),
            _ => format!("Chatter_{number}"),
        };
        Self {
            id: FIRST_CHATTER_ID + u64::from(number),
            login,
            display_name,
            color: traits & 0x00ff_ffff,
            months: if traits & 0x0300_0000 == 0 { u64::from(traits >> 26) + 1 } else { 0 },
            moderator: traits & 0xf800_0000 == 0x0800_0000,
            vip: traits & 0xf800_0000 == 0x1000_0000,
            turbo: traits & 0xfc00_0000 == 0x2000_0000,
        }
    }

    /// The values of `badge-info` and `badges`.
    pub(crate) fn badges(&self) -> (String, String) {
        let info = if self.months > 0 { format!("subscriber/{}", self.months) } else { String::new() };
        let mut badges: Vec<String> = Vec::new();
        if self.moderator {
            badges.push("moderator/1".to_owned());
        }
        if self.vip {
            badges.push("vip/1".to_owned());
        }
        if self.months > 0 {
            badges.push(format!("subscriber/{}", self.months / 3 * 3));
        }
        if self.turbo {
            badges.push("turbo/1".to_owned());
        }
        (info, badges.join(","))
    }
}

/// Spreads neighbours over all values (the finaliser of MurmurHash3).
fn scatter(number: u32) -> u32 {
    let mut hash = number.wrapping_add(0x9e37_79b9);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chatter_is_the_same_whenever_asked() {
        let chatter = Chatter::numbered(7);
        assert_eq!(chatter.id, 500_000_007);
        assert_eq!(chatter.display_name, Chatter::numbered(7).display_name);
    }

    #[test]
    fn a_crowd_has_every_kind_of_chatter() {
        let crowd: Vec<Chatter> = (0..1_000).map(Chatter::numbered).collect();
        assert!(crowd.iter().any(|chatter| chatter.moderator));
        assert!(crowd.iter().any(|chatter| chatter.vip));
        assert!(crowd.iter().any(|chatter| chatter.turbo));
        assert!(crowd.iter().any(|chatter| !chatter.display_name.is_ascii()));
        let subscribers = crowd.iter().filter(|chatter| chatter.months > 0).count();
        assert!((150..350).contains(&subscribers), "{subscribers}");
    }
}
