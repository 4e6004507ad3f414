//! The retry budget: limits the extra attempts to a share of the requests.
//!
//! Over the last `window`, withdrawals may not exceed `ratio × deposits + floor × window`. Every request deposits once, right before its first attempt (a
//! hung upstream must not look unloaded, and a request that the proxy answers itself is no load); every extra attempt withdraws one. A [`Withdrawal`] is made
//! when a retry is decided. If the retry is never sent, it goes back.
//!
//! **The law.** The window that ends with a withdrawal allowed it. Walk back from the last withdrawal in disjoint windows: every
//! withdrawal lies in one of them and each of them kept the limit, so over any time `T` it holds that
//! `withdrawals ≤ ratio × deposits + floor × (T + window)`. The ratio is exact, because it is an integer in millionths without truncated token costs (tower's
//! `TpsBudget` turns 15 % into 16.7 % and 60 % into 100 %). It limits a rate and not a concurrency, so that it means the same at 5 and at 5 000 requests a second.
//!
//! **Cores.** A deposit is one atomic add. A withdrawal checks and subtracts under a mutex, so two cores cannot both spend the last token. Retries
//! are too rare to queue for it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::units::{Epoch, Ratio};
use crate::window::Window;

/// What the budget allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Extra attempts allowed per request.
    pub ratio: Ratio,
    /// Extra attempts per second that are always allowed, so that a quiet service can retry at all.
    pub floor_per_second: u32,
    /// The time over which both are counted.
    pub window: Duration,
}

/// A retry budget shared by all cores.
#[derive(Debug)]
pub struct Budget {
    config: Config,
    /// The first counter has the deposits, the second the withdrawals.
    window: Window,
    /// Held from the check to the subtraction of a withdrawal.
    withdrawing: Mutex<()>,
}

/// One extra attempt that has been taken out of a budget. Its drop gives it back, unless it was spent.
#[derive(Debug)]
#[must_use = "a withdrawal that is dropped unspent is given back"]
pub struct Withdrawal {
    /// `None` once it is spent.
    from: Option<Arc<Budget>>,
    at: Instant,
}

/// The budget has less than the one attempt that was to be withdrawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted {
    /// The balance, which is less than one.
    pub balance: Balance,
}

/// How many extra attempts could be withdrawn, exact to a millionth. It is negative when deposits have left the window before the withdrawals they paid for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Balance(i64);

impl Balance {
    /// The balance in attempts.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / f64::from(Ratio::ONE.ppm())
    }
}

impl Budget {
    /// A budget that has only its floor to spend.
    pub fn new(config: Config, now: Instant) -> Budget {
        Budget { config, window: Window::new(Epoch::new(now), config.window), withdrawing: Mutex::new(()) }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Counts one request. Call it once per request, before the first attempt.
    pub fn deposit(&self, now: Instant) {
        self.window.add(now, 1, 0);
    }

    /// Takes one extra attempt out of the budget.
    ///
    /// # Errors
    /// The budget has less than one.
    pub fn withdraw(self: &Arc<Self>, now: Instant) -> Result<Withdrawal, Exhausted> {
        // The lock guards no data, so a panic under it can have left nothing half done.
        let _guard = self.withdrawing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let balance = self.balance(now);
        if balance.0 < i64::from(Ratio::ONE.ppm()) {
            return Err(Exhausted { balance });
        }
        self.window.add(now, 0, 1);
        Ok(Withdrawal { from: Some(Arc::clone(self)), at: now })
    }

    /// What could be withdrawn at `now`.
    pub fn balance(&self, now: Instant) -> Balance {
        let sums = self.window.sums(now);
        let floor = u128::from(self.config.floor_per_second) * self.config.window.as_nanos() / 1_000;
        let earned =
            u64::try_from(floor).unwrap_or(u64::MAX).saturating_add(self.config.ratio.millionths_of(sums.first));
        let spent = i64::from(sums.second) * i64::from(Ratio::ONE.ppm());
        Balance(i64::try_from(earned).unwrap_or(i64::MAX).saturating_sub(spent))
    }
}

impl Withdrawal {
    /// The extra attempt is sent.
    pub fn spend(mut self) {
        self.from = None;
    }
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        if let Some(budget) = &self.from {
            budget.window.take_back(self.at, 0, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(ratio: f64, floor_per_second: u32) -> (Arc<Budget>, Instant) {
        let now = Instant::now();
        let ratio = Ratio::from_f64(ratio).expect("a test's ratio is in range");
        (Arc::new(Budget::new(Config { ratio, floor_per_second, window: Duration::from_secs(10) }, now)), now)
    }

    fn spend_one(budget: &Arc<Budget>, now: Instant) -> bool {
        budget.withdraw(now).map(Withdrawal::spend).is_ok()
    }

    fn withdraw_all(budget: &Arc<Budget>, now: Instant) -> u32 {
        (0..100_000).take_while(|_| spend_one(budget, now)).count() as u32
    }

    #[test]
    fn any_ratio_is_met_exactly() {
        for ratio in [0.01, 0.1, 0.15, 0.2, 0.3, 0.333, 0.5, 0.6, 0.75, 1.0, 1.5] {
            let (budget, now) = budget(ratio, 0);
            (0..10_000).for_each(|_| budget.deposit(now));
            assert_eq!(withdraw_all(&budget, now), (ratio * 10_000.0_f64).round() as u32, "ratio {ratio}");
        }
    }

    #[test]
    fn the_floor_is_there_without_any_request_and_comes_back_with_time() {
        let (budget, now) = budget(0.2, 3);
        assert_eq!(withdraw_all(&budget, now), 30);
        assert_eq!(withdraw_all(&budget, now + Duration::from_secs(9)), 0);
        assert_eq!(withdraw_all(&budget, now + Duration::from_secs(10)), 30);
    }

    #[test]
    fn a_budget_of_nothing_gives_nothing() {
        let (budget, now) = budget(0.0, 0);
        budget.deposit(now);
        assert_eq!(budget.withdraw(now).err(), Some(Exhausted { balance: Balance(0) }));
    }

    #[test]
    fn a_withdrawal_goes_back_unless_it_is_spent() {
        let (budget, now) = budget(0.0, 1);
        let withdrawals: Vec<_> = (0..10).filter_map(|_| budget.withdraw(now).ok()).collect();
        assert_eq!((withdrawals.len(), budget.balance(now).as_f64()), (10, 0.0));
        for (n, withdrawal) in withdrawals.into_iter().enumerate() {
            if n < 4 { withdrawal.spend() } else { drop(withdrawal) }
        }
        assert_eq!(budget.balance(now).as_f64(), 6.0);
    }

    #[test]
    fn the_last_token_is_spent_once_however_many_cores_reach_for_it() {
        let (budget, now) = budget(0.2, 0);
        (0..5_000).for_each(|_| budget.deposit(now));
        let spent: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| withdraw_all(&budget, now))).collect();
            threads.into_iter().map(|t| t.join().expect("no thread panics")).sum()
        });
        assert_eq!(spent, 1_000);
    }

    proptest! {
        /// The law of the module head, for any ratio, floor and order of events.
        #[test]
        fn withdrawals_never_exceed_the_law(
            ppm in 0u32..2_000_000,
            floor in 0u32..20,
            steps in prop::collection::vec((0u64..3_000, 0u32..40, 0u32..40), 1..100),
        ) {
            let start = Instant::now();
            let ratio = Ratio::from_ppm(ppm).expect("in range");
            let config = Config { ratio, floor_per_second: floor, window: Duration::from_secs(10) };
            let budget = Arc::new(Budget::new(config, start));
            let (mut now, mut deposits, mut withdrawals, mut unspent) = (start, 0u64, 0u64, None);
            for (wait_ms, requests, wanted) in steps {
                now += Duration::from_millis(wait_ms);
                (0..requests).for_each(|_| budget.deposit(now));
                deposits += u64::from(requests);
                withdrawals += (0..wanted).filter(|_| spend_one(&budget, now)).count() as u64;
                // One more is held for a step, and goes back.
                unspent = budget.withdraw(now).ok().or(unspent);
                let seconds = (now - start).as_secs_f64() + 10.0;
                let allowed = ratio.as_f64() * deposits as f64 + f64::from(floor) * seconds;
                prop_assert!(withdrawals as f64 <= allowed + 1e-6, "{} > {}", withdrawals, allowed);
            }
        }
    }
}
