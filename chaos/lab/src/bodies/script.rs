//! What an exchange does, drawn from its number alone: so client and endpoint agree without telling each other.

use std::time::Duration;

/// The longest of most bodies: several times what the proxy and two small socket buffers hold.
const LENGTH_MAX: u64 = 300_000;
/// A few are longer than what a socket buffer grows to.
const LONG_BYTES: u64 = 5_000_000;
/// The exchanges from this number on get their responses at once, and then send for a second or two: what a drain must not cut off.
pub const SLOW_FROM: u64 = 1 << 32;
/// The longest pause before a piece of a body. A body of [`LENGTH_MAX`] then takes longer than a drain waits for silence.
const PAUSE_MAX_MS: u64 = 60;

/// One exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    /// A POST, which must not arrive twice; otherwise a PUT.
    pub(super) is_post: bool,
    pub(super) request: Body,
    pub(super) response: Body,
    pub(super) responds: Responds,
    /// How long the endpoint pauses before it reads the next piece.
    pub(super) reading_pause: Duration,
}

/// When the endpoint responds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Responds {
    /// When it has the whole request.
    AtEnd,
    /// When it has the head; it reads the body afterwards.
    AtHead,
    /// When it has the head; it reads a little and closes.
    AtHeadAndStops,
    /// The first time with a 503 at the head, though it reads the body; later at the end.
    RefusesAtFirst,
}

/// One body. Its bytes are a function of its seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) seed: u64,
    pub(super) length: u64,
    pub(super) is_chunked: bool,
    /// Before each piece.
    pub(super) pause: Duration,
}

impl Script {
    pub(super) fn of(number: u64) -> Self {
        let mut draws = Draws(number.wrapping_mul(0xD1B5_4A32_D192_ED03));
        let responds = match draws.below(8) {
            0..=2 => Responds::AtEnd,
            3..=5 => Responds::AtHead,
            6 => Responds::AtHeadAndStops,
            _ => Responds::RefusesAtFirst,
        };
        let is_post = draws.below(2) == 0;
        let (request, response) = (draws.body(), draws.body());
        let reading_pause = draws.pause(request.length);
        if number >= SLOW_FROM {
            let pause = Duration::from_millis(PAUSE_MAX_MS + draws.below(PAUSE_MAX_MS));
            let (request, response) =
                (Body { length: LENGTH_MAX, pause, ..request }, Body { length: 0, pause: Duration::ZERO, ..response });
            return Self { is_post, request, response, responds: Responds::AtHead, reading_pause };
        }
        Self { is_post, request, response, responds, reading_pause }
    }
}

impl Body {
    /// Fills `piece` with the bytes from `at` on.
    pub(super) fn fill(&self, at: u64, piece: &mut [u8]) {
        for (byte, at) in piece.iter_mut().zip(at..) {
            *byte = self.byte(at);
        }
    }

    /// Where `piece`, which begins at `at`, first differs from the body.
    pub(super) fn difference(&self, at: u64, piece: &[u8]) -> Option<u64> {
        let differs = |(at, byte): &(u64, &u8)| *at >= self.length || self.byte(*at) != **byte;
        (at..).zip(piece).find(differs).map(|(at, _)| at)
    }

    fn byte(&self, at: u64) -> u8 {
        mixed(self.seed.wrapping_add(at / 8)).to_le_bytes()[(at % 8) as usize]
    }
}

/// A generator of Steele, Lea and Flood (`SplitMix64`, 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// None for most, so that most exchanges are quick.
    fn pause(&mut self, length: u64) -> Duration {
        let ms = self.below(PAUSE_MAX_MS + 1);
        let is_paused = self.below(8) == 0 && length <= LENGTH_MAX;
        Duration::from_millis(if is_paused { ms } else { 0 })
    }

    fn body(&mut self) -> Body {
        let length = match self.below(32) {
            0 => LONG_BYTES,
            1..=7 => 0,
            8..=15 => self.below(1_000),
            16..=23 => self.below(60_000),
            _ => self.below(LENGTH_MAX),
        };
        Body { seed: self.next(), length, is_chunked: self.below(2) == 0, pause: self.pause(length) }
    }
}

fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_of_another_body_or_place_shows() {
        let (one, other) = (Script::of(1).request, Script::of(2).request);
        let (one, other) = (Body { length: 100, ..one }, Body { length: 100, ..other });
        let mut piece = [0; 40];
        one.fill(13, &mut piece);
        assert_eq!(one.difference(13, &piece), None);
        assert!(one.difference(14, &piece).is_some_and(|at| at < 16), "a byte was skipped");
        assert!(other.difference(13, &piece).is_some_and(|at| at < 16), "another body");
        one.fill(70, &mut piece);
        assert_eq!(one.difference(70, &piece), Some(100), "more than its length");
    }
}
