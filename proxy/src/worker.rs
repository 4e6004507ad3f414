//! A worker: one thread with its downstream connections and its pool of connections to endpoints.
//!
//! A connection stays on one worker, so a request waits for no lock that another thread holds. `context` is what an exchange may use of its worker,
//! `connections` lists the open connections and ends the overdue ones, and `handle` is a route as the worker sees it. This file runs them.
//!
//! The **tick** every 100 ms does three things. It ends connections that have stood still for too long. It is the coarse clock that watches connections, so that no
//! request reads a clock for every packet. And it keeps a timer pending close by, so that the timers of requests need not wake the driver to arm themselves, which
//! would cost a system call each. For this alone the tick would have to stay.

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

/// What the control thread orders a worker to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Serve connections.
    Serve,
    /// Finish the requests under way and take no new connections.
    Finish,
    /// End every connection now, in such a way that no reader takes a part of a response for the whole.
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

    /// Serves the connections it gets until it has the order to finish and the last of them has ended.
    pub async fn run(
        self: Rc<Self>,
        mut connections: mpsc::Receiver<StdTcpStream>,
        mut orders: watch::Receiver<Order>,
    ) {
        let context = &self.context;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Each branch only waits, so dropping it loses nothing. What it brings is handled to the end before the next turn.
            tokio::select! {
                Some(stream) = connections.recv() => self.adopt(stream),
                _ = tick.tick() => context.on_tick(),
                changed = orders.changed() => {
                    // The control thread is gone, so no other order will come.
                    let order = if changed.is_err() { Order::CutOff } else { *orders.borrow() };
                    self.obey(order);
                    if changed.is_err() {
                        return;
                    }
                }
            }
            if context.is_finishing() {
                // Connections that were handed over before the order are served too.
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
        // The task ends with its connection: by the peer, by a limit that the tick checks, or by an order. A panic ends this task alone.
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
            // Given again after a reload. An idle worker would keep the former generation until its next look at the connections.
            Order::Serve => drop(self.context.live()),
            Order::Finish => self.context.finish(),
            Order::CutOff => {
                self.context.connections.cut_off();
                self.context.finish();
            }
        }
    }
}
