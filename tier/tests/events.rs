//! Events of `tracing`, as an operator sees them.
#![cfg(feature = "tracing")]

mod common;

use std::fmt;
use std::sync::{Arc, Mutex};

use async_lru_tier::ErrorKind;
use common::world::{SECOND, World};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, subscriber};

/// Keeps the events of the tiers: their level and message.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    /// What came since the last time.
    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "async_lru_tier"
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The message of an event, and its kind after it.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            "kind" => self.0.push_str(&format!(": {value:?}")),
            _ => {}
        }
    }
}

fn event(level: Level, message: &str) -> (Level, String) {
    (level, message.to_owned())
}

#[test]
fn an_outage_is_warned_of_once() {
    let log = Log::default();
    subscriber::with_default(log.clone(), || {
        let world = World::new();
        world.faults.refuse(ErrorKind::Denied);
        let users = world.builder().build();
        world.spawn(users.driver());
        world.pass(5 * SECOND);
        let denied = "cannot connect to the store: Denied";
        let events = log.take();
        assert_eq!(events[0], event(Level::WARN, denied));
        assert!(events.len() > 2);
        assert!(events[1..].iter().all(|later| *later == event(Level::DEBUG, denied)));

        world.faults.accept();
        // The longest pause, and then the time after which a link has held.
        world.pass(5 * SECOND);
        assert_eq!(log.take(), [event(Level::INFO, "linked to the store")]);

        world.faults.take_down();
        world.settle();
        let expected = [
            event(Level::WARN, "the link to the store is lost"),
            event(Level::WARN, "cannot connect to the store: Lost"),
        ];
        // A link that has held is made anew at once.
        assert_eq!(log.take(), expected);
    });
}

#[test]
fn the_end_of_the_last_handle_is_no_loss_but_for_what_could_not_be_sent() {
    let log = Log::default();
    subscriber::with_default(log.clone(), || {
        for is_down in [false, true] {
            let world = World::new();
            let users = world.builder().build();
            world.spawn(users.driver());
            world.settle();
            if is_down {
                world.faults.take_down();
                world.settle();
                let users = users.clone();
                assert!(world.run(async move { users.invalidate("ann").await }).is_err());
            }
            log.take();
            drop(users);
            world.settle();
            let expected = match is_down {
                false => event(Level::INFO, "the link to the store is closed"),
                true => event(Level::WARN, "removals were not sent to the store"),
            };
            assert_eq!(log.take(), [expected]);
        }
    });
}
