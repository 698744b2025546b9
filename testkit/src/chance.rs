//! Where all randomness of a test comes from: one seed, printed, from which the test can be repeated.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// The variable that names the seed.
const SEED: &str = "SEED";

/// A source of chance.
#[derive(Debug)]
pub struct Chance {
    seed: u64,
    random: StdRng,
}

impl Chance {
    /// From the seed in the variable `SEED`, or one that is drawn; prints it.
    ///
    /// # Panics
    /// When `SEED` is not a number.
    #[must_use]
    pub fn from_env() -> Self {
        let seed = match std::env::var(SEED) {
            Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{SEED} is not a number: {text}")),
            _ => rand::random(),
        };
        println!("SEED={seed} repeats this run's choices");
        Self { seed, random: StdRng::seed_from_u64(seed) }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number of this range.
    pub fn number(&mut self, range: Range<u64>) -> u64 {
        self.random.random_range(range)
    }

    /// A time of this range.
    pub fn time(&mut self, range: Range<Duration>) -> Duration {
        self.random.random_range(range)
    }

    /// Brings these into an order of its own.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.random);
    }
}
