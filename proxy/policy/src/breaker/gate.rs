//! The state of a breaker and the number of its era, packed into one word, so that one atomic read tells both.

use super::types::State;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) state: State,
    pub(super) era: u64,
}

impl Gate {
    pub(super) fn pack(self) -> u64 {
        let state = match self.state {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2,
        };
        self.era << 2 | state
    }

    pub(super) fn unpack(word: u64) -> Gate {
        let state = match word & 3 {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        };
        Gate { state, era: word >> 2 }
    }
}
