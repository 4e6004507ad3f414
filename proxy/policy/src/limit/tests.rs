//! No slot is lost or taken twice, nobody in the queue is forgotten or overtaken, and drops give back exactly what was held.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use proptest::prelude::*;

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn is_due(waiting: &Waiting) -> bool {
    waiting.poll_slot(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn the_last_place_is_taken_once_and_a_dropped_slot_gives_it_back() {
    let in_flight = InFlight::new(2);
    let slots: Vec<_> = (0..3).filter_map(|_| in_flight.enter(2)).collect();
    assert_eq!((slots.len(), in_flight.count()), (2, 2));
    drop(slots);
    assert_eq!(in_flight.count(), 0);
    assert!(in_flight.enter(0).is_none());
}

#[test]
fn a_request_that_has_waited_gets_the_next_slot_and_a_new_one_does_not() {
    let in_flight = InFlight::new(1);
    let mut waiting = in_flight.wait(1).expect("the first to wait");
    assert!(in_flight.wait(1).is_none(), "waiting has a limit of its own");
    let slot = in_flight.enter(1).expect("who waits holds no slot");
    assert!(waiting.resume().is_none(), "the slot is taken");
    let woken = Arc::new(Woken::default());
    assert!(waiting.poll_slot(&mut Context::from_waker(&Waker::from(Arc::clone(&woken)))).is_pending());
    drop(slot);
    assert_eq!(woken.0.load(Relaxed), 1, "it is woken, once");
    assert!(in_flight.enter(1).is_none(), "the slot is not free for others");
    let slot = waiting.resume().expect("it is its own");
    drop(waiting);
    assert_eq!((in_flight.count(), in_flight.waiting()), (1, 0));
    drop(slot);
    assert!(in_flight.enter(1).is_some());
}

#[test]
fn a_request_that_leaves_the_queue_passes_its_slot_on() {
    for is_granted in [false, true] {
        let in_flight = InFlight::new(1);
        let slot = in_flight.enter(1).expect("it is free");
        let mut queue: VecDeque<_> = (0..2).map(|_| in_flight.wait(2).expect("a place")).collect();
        assert!(queue.iter_mut().all(|waiting| waiting.resume().is_none()));
        let first = queue.pop_front().expect("two wait");
        if is_granted {
            drop(slot);
            assert!(is_due(&first) && !is_due(&queue[0]));
            drop(first);
        } else {
            drop(first);
            drop(slot);
        }
        assert!(is_due(&queue[0]), "granted before: {is_granted}");
        drop(queue);
        assert_eq!((in_flight.count(), in_flight.waiting()), (0, 0));
    }
}

#[test]
fn a_new_request_leaves_a_slot_for_each_in_the_queue() {
    let in_flight = InFlight::new(1);
    let _slot = in_flight.enter(1).expect("it is free");
    let mut waiting = in_flight.wait(1).expect("a place");
    assert!(waiting.resume().is_none(), "the slot is taken");
    assert!(in_flight.enter(2).is_none(), "there is one slot, but not two");
    assert!(in_flight.enter(3).is_some());
}

#[test]
fn the_queue_goes_by_the_limit_in_force() {
    let in_flight = InFlight::new(2);
    let mut slots: Vec<_> = (0..2).filter_map(|_| in_flight.enter(2)).collect();
    let mut queue: Vec<_> = (0..3).filter_map(|_| in_flight.wait(3)).collect();
    assert!(queue.iter_mut().all(|waiting| waiting.resume().is_none()), "they queue under the limit of 2");
    in_flight.set_max(4);
    assert_eq!(queue.iter().map(is_due).collect::<Vec<_>>(), [true, true, false], "a reload adds two slots");
    in_flight.set_max(1);
    slots.pop();
    assert!(!is_due(&queue[2]), "three are taken, of one");
    drop((slots, queue));
    assert_eq!((in_flight.count(), in_flight.waiting()), (0, 0));
}

#[test]
fn no_place_is_lost_or_taken_twice_between_cores() {
    const MAX: u32 = 3;
    let in_flight = InFlight::new(MAX);
    let (held, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let work = |slot: Slot| {
        most.fetch_max(held.fetch_add(1, Relaxed) + 1, Relaxed);
        std::thread::yield_now();
        held.fetch_sub(1, Relaxed);
        drop(slot);
    };
    std::thread::scope(|scope| {
        for core in 0..4 {
            let (in_flight, work) = (&in_flight, &work);
            scope.spawn(move || {
                for n in 0..2_000 {
                    if let Some(slot) = in_flight.enter(MAX) {
                        work(slot);
                    }
                    let Some(mut waiting) = in_flight.wait(3) else { continue };
                    loop {
                        match waiting.resume() {
                            Some(slot) => break work(slot),
                            None if (n + core) % 7 == 0 => break, // it leaves the queue
                            None => std::thread::yield_now(),
                        }
                    }
                }
            });
        }
    });
    assert_eq!((in_flight.counts.load(Relaxed), in_flight.waiting()), (0, 0));
    assert!((1..=MAX).contains(&most.load(Relaxed)), "{most:?} slots at once");
}

/// What a request does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Enter,
    /// One of those with a slot ends.
    Leave(usize),
    /// One of those with a slot waits.
    Wait(usize),
    /// One of those that sleep asks for a slot.
    Resume(usize),
    /// One of those that sleep disconnects.
    Disconnect(usize),
    /// One of those in the queue disconnects.
    LeaveQueue(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => Just(Act::Enter),
        2 => any::<usize>().prop_map(Act::Leave),
        2 => any::<usize>().prop_map(Act::Wait),
        2 => any::<usize>().prop_map(Act::Resume),
        1 => any::<usize>().prop_map(Act::Disconnect),
        1 => any::<usize>().prop_map(Act::LeaveQueue),
    ];
    prop::collection::vec(act, 1..120)
}

proptest! {
    /// Against the obvious model: a number of slots and a first-come queue. What has been granted is taken at once.
    #[test]
    fn slots_agree_with_a_queue_that_serves_in_order(acts in acts(), max in 1u32..4, waiting_max in 1u32..4) {
        let in_flight = InFlight::new(max);
        let (mut slots, mut asleep, mut queue) = (Vec::new(), Vec::new(), VecDeque::new());
        for act in acts {
            match act {
                Act::Enter => {
                    let is_free = slots.len() < max as usize && queue.is_empty();
                    let entered = in_flight.enter(max);
                    prop_assert_eq!(entered.is_some(), is_free);
                    slots.extend(entered);
                }
                Act::Leave(n) if !slots.is_empty() => drop(slots.swap_remove(n % slots.len())),
                Act::Wait(n) if !slots.is_empty() => {
                    let is_free = asleep.len() + queue.len() < waiting_max as usize;
                    let waiting = in_flight.wait(waiting_max);
                    prop_assert_eq!(waiting.is_some(), is_free);
                    if let Some(waiting) = waiting {
                        drop(slots.swap_remove(n % slots.len()));
                        asleep.push(waiting);
                    }
                }
                Act::Resume(n) if !asleep.is_empty() => {
                    let mut waiting: Waiting = asleep.swap_remove(n % asleep.len());
                    let is_free = slots.len() < max as usize && queue.is_empty();
                    let resumed = waiting.resume();
                    prop_assert_eq!(resumed.is_some(), is_free, "free slots go to those who wait, in their order");
                    match resumed {
                        Some(slot) => slots.push(slot),
                        None => queue.push_back(waiting),
                    }
                }
                Act::Disconnect(n) if !asleep.is_empty() => drop(asleep.swap_remove(n % asleep.len())),
                Act::LeaveQueue(n) if !queue.is_empty() => drop(queue.remove(n % queue.len())),
                _ => {}
            }
            // A free slot is granted to the first in the queue, and to no other one.
            while slots.len() < max as usize && let Some(mut first) = queue.pop_front() {
                prop_assert!(is_due(&first), "the first in the queue is forgotten");
                slots.push(first.resume().expect("it is due"));
            }
            prop_assert!(queue.iter().all(|queued| !is_due(queued)), "somebody overtakes the first");
            prop_assert_eq!(in_flight.count() as usize, slots.len());
            prop_assert_eq!(in_flight.waiting() as usize, asleep.len() + queue.len());
        }
        drop((slots, asleep, queue));
        prop_assert_eq!((in_flight.counts.load(Relaxed), in_flight.waiting()), (0, 0));
    }
}
