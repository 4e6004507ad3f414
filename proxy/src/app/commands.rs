//! What the operator orders the running proxy to do.
//!
//! A stop and a reload have ways of their own. A stop never waits behind reloads, each of which may take a second. However many reloads are ordered before one
//! begins, they are one, because it reads what the file is then; one that is ordered while another is under way comes after it.

use tokio::sync::mpsc;

/// Gives orders to a proxy, from any thread.
pub struct Orders {
    stop: mpsc::Sender<()>,
    reload: mpsc::Sender<()>,
}

/// The orders, for [`App::run`](super::App::run). When [`Orders`] is gone, the proxy ends at once.
pub struct Commands {
    pub(super) stop: mpsc::Receiver<()>,
    pub(super) reload: mpsc::Receiver<()>,
}

/// Both ends of the way for orders.
pub fn orders() -> (Orders, Commands) {
    // The second stop ends the drain; further ones could change nothing.
    let ((stop, stops), (reload, reloads)) = (mpsc::channel(2), mpsc::channel(1));
    (Orders { stop, reload }, Commands { stop: stops, reload: reloads })
}

impl Orders {
    /// Drain, then end. The second time: end now.
    pub fn stop(&self) {
        // It fails only if as many stops wait as have a meaning, or the proxy has ended.
        let _ = self.stop.try_send(());
    }

    /// Load the configuration file again.
    pub fn reload(&self) {
        // It fails only if a reload waits that will read the file later than now, or the proxy has ended.
        let _ = self.reload.try_send(());
    }

    /// Waits until the proxy takes no more orders.
    pub async fn ended(&self) {
        self.stop.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_reloads_is_one_and_one_that_comes_during_it_is_another() {
        let (orders, mut commands) = orders();
        (0..20).for_each(|_| orders.reload());
        assert!(commands.reload.try_recv().is_ok());
        assert!(commands.reload.try_recv().is_err(), "the burst is one");
        (0..20).for_each(|_| orders.reload());
        assert!(commands.reload.try_recv().is_ok() && commands.reload.try_recv().is_err());
    }

    #[test]
    fn two_stops_arrive_however_many_reloads_wait() {
        let (orders, mut commands) = orders();
        (0..20).for_each(|_| orders.reload());
        (0..3).for_each(|_| orders.stop());
        assert!(commands.stop.try_recv().is_ok() && commands.stop.try_recv().is_ok());
        assert!(commands.stop.try_recv().is_err(), "there is nothing beyond ending now");
    }
}
