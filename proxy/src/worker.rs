//! A worker: one thread, its connections from the app, its pool of connections to endpoints.
//!
//! A connection lives and dies on one worker, so nothing on a request's way is locked against another thread. `context` is what an exchange may use of its worker, `connections`
//! who is open and who is overdue, `handle` a route as the worker sees it; this file runs them.
//!
//! The **tick** every 100 ms does three things. It closes what has waited too long. It is the coarse clock by which connections are watched, so that no
//! request has to read a clock for every packet. And it must stay even if it had nothing to do: with one timer always pending close by, the timers of
//! requests do not have to wake the driver to arm themselves, which costs a system call each.

pub mod connections;
pub mod context;
pub mod handle;

use std::net::TcpStream as StdTcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{mpsc, watch};

use self::connections::TICK;
use self::context::Context;
use crate::downstream::h1;
use crate::shared::Shared;
use crate::telemetry::events::Event;
use crate::transport::ByteStream;
use crate::upstream::connect::Dial;

/// What a worker is told from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Serve.
    Serve,
    /// Finish what is under way and take nothing more.
    Finish,
    /// End every connection now, and so that no reader takes a part of a response for the whole.
    CutOff,
}

/// One worker; everything in it belongs to its thread.
pub struct Worker {
    context: Rc<Context>,
}

impl Worker {
    /// Worker `number` of `shared`, which connects by `dial`.
    pub fn new(shared: Arc<Shared>, number: usize, dial: Box<dyn Dial>) -> Rc<Worker> {
        Rc::new(Worker { context: Context::new(shared, number, dial) })
    }

    /// What its exchanges may use.
    pub fn context(&self) -> &Rc<Context> {
        &self.context
    }

    /// Serves the connections it is handed until it is told to finish and the last of them has ended.
    pub async fn run(
        self: Rc<Self>,
        mut connections: mpsc::Receiver<StdTcpStream>,
        mut orders: watch::Receiver<Order>,
    ) {
        let context = &self.context;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Each branch only waits; what it was given is handled whole before the next turn.
            tokio::select! {
                Some(stream) = connections.recv() => self.adopt(stream),
                _ = tick.tick() => context.on_tick(),
                changed = orders.changed() => {
                    // Whoever gave orders is gone: nobody will say more.
                    let order = if changed.is_err() { Order::CutOff } else { *orders.borrow() };
                    self.obey(order);
                    if changed.is_err() {
                        return;
                    }
                }
            }
            if context.is_finishing() {
                // Handed over before the order was given, and so taken before it is obeyed.
                while let Ok(stream) = connections.try_recv() {
                    self.adopt(stream);
                }
            }
            if context.is_finishing() && context.load().connections.load(Relaxed) == 0 {
                return;
            }
        }
    }

    /// Starts serving one connection.
    pub fn serve(&self, stream: ByteStream) {
        // The task ends with its connection: by the peer, by a limit of the tick, or by an order. A panic in it stays in it.
        tokio::task::spawn_local(h1::serve(Rc::clone(&self.context), stream));
    }

    fn adopt(&self, stream: StdTcpStream) {
        match tokio::net::TcpStream::from_std(stream) {
            Ok(tcp) => self.serve(ByteStream::Tcp(tcp)),
            Err(error) => {
                self.context.load().connections.fetch_sub(1, Relaxed);
                self.context.shared.emit(&Event::AcceptFailed(&error));
            }
        }
    }

    fn obey(&self, order: Order) {
        match order {
            Order::Serve => {}
            Order::Finish => self.context.finish(),
            Order::CutOff => {
                self.context.connections.cut_off();
                self.context.finish();
            }
        }
    }
}
