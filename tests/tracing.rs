//! What the feature `tracing` tells a subscriber.

mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_lru::{AsyncLru, Builder, ManualClock};
use common::{Gate, hand, now, poll};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, info_span, subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

const SECOND: Duration = Duration::from_secs(1);

/// What is known of a span.
#[derive(Clone, Debug, Default)]
struct Told {
    name: String,
    parent: Option<String>,
    fields: BTreeMap<&'static str, String>,
    /// How often it was entered.
    entered: usize,
    /// The messages of its events, and their levels.
    events: Vec<(Level, String)>,
    /// The name of the span within which code asked.
    is_closed: bool,
}

/// All spans, in their order.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(u64, Told)>>>);

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Spans {
    fn with<R>(&self, id: &Id, change: impl FnOnce(&mut Told) -> R) -> R {
        let mut spans = self.0.lock().unwrap();
        // The last one, for ids are given again.
        let span = spans.iter_mut().rfind(|(number, _)| *number == id.into_u64());
        change(&mut span.expect("it was told of").1)
    }

    /// Those of loads.
    fn loads(&self) -> Vec<Told> {
        let spans = self.0.lock().unwrap();
        spans.iter().map(|(_, told)| told.clone()).filter(|told| told.name == "load").collect()
    }

    fn load(&self) -> Told {
        let [load] = &self.loads()[..] else { panic!("there is one: {:?}", self.loads()) };
        load.clone()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let parent = span.parent().map(|parent| parent.name().to_owned());
        let mut told = Told { name: span.name().to_owned(), parent, ..Told::default() };
        attributes.record(&mut Fields(&mut told.fields));
        self.0.lock().unwrap().push((id.into_u64(), told));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.with(id, |told| values.record(&mut Fields(&mut told.fields)));
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        self.with(id, |told| told.entered += 1);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.with(&id, |told| told.is_closed = true);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        if event.metadata().target() == "async_lru" {
            assert!(fields.contains_key("cache"), "{fields:?}");
        }
        let message = (*event.metadata().level(), fields["message"].clone());
        self.with(&span.id(), |told| told.events.push(message));
    }
}

/// Runs it with a subscriber.
fn traced(run: impl FnOnce(&Spans)) {
    let spans = Spans::default();
    let subscriber = Registry::default().with(spans.clone());
    subscriber::with_default(subscriber, || run(&spans));
}

fn builder(clock: &ManualClock) -> Builder<u32, u32> {
    AsyncLru::builder().name("users").clock(clock.clone())
}

/// A load that takes a second and waits at a gate.
async fn load(
    clock: ManualClock,
    gate: Gate,
    result: Result<u32, &'static str>,
) -> Result<u32, &'static str> {
    gate.wait().await;
    clock.advance(SECOND);
    // It is polled within its span.
    tracing::debug!("loading");
    result
}

#[test]
fn a_load_has_a_span_within_that_of_its_caller_with_its_outcome_and_its_time() {
    for (result, outcome) in [(Ok(10), "value"), (Err("down"), "error")] {
        traced(|spans| {
            let clock = ManualClock::new();
            let cache = builder(&clock).build();
            let gate = Gate::new();
            let own = (clock.clone(), gate.clone());
            let mut first = hand(cache.try_get_or_insert_with(1, || load(own.0, own.1, result)));
            let mut second =
                hand(cache.try_get_or_insert_with(1, async || -> Result<u32, &str> {
                    unreachable!("it waits")
                }));
            assert!(info_span!("first").in_scope(|| poll(&mut first)).is_pending());
            assert!(info_span!("second").in_scope(|| poll(&mut second)).is_pending());
            gate.open();
            let begun = spans.load();
            assert!(!begun.is_closed && !begun.fields.contains_key("outcome"));
            assert!(poll(&mut first).is_ready() && poll(&mut second).is_ready());
            drop((first, second));
            let told = spans.load();
            assert_eq!(told.parent.as_deref(), Some("first"));
            let fields =
                ["cache", "refresh", "outcome", "elapsed_us"].map(|name| &*told.fields[name]);
            assert_eq!(fields, ["users", "false", outcome, "1000000"]);
            let mut events = vec![(Level::DEBUG, "loading".to_owned())];
            if result.is_err() {
                events.push((Level::WARN, "load failed".to_owned()));
            }
            assert_eq!(told.events, events);
            assert!(told.is_closed);
            // A hit loads nothing.
            if result.is_ok() {
                assert_eq!(now(cache.get_or_insert_with(1, async || unreachable!())), 10);
                assert_eq!(spans.loads().len(), 1);
            }
        });
    }
}

#[test]
fn a_detached_load_is_within_the_span_of_its_first_caller_whoever_polls_it() {
    traced(|spans| {
        let clock = ManualClock::new();
        let cache = builder(&clock).build();
        let gate = Gate::new();
        let own = (clock.clone(), gate.clone());
        let detached = cache.entry(1).detached();
        let mut first = hand(detached.or_try_insert_with(move || load(own.0, own.1, Ok(10))));
        assert!(info_span!("first").in_scope(|| poll(&mut first)).is_pending());
        let mut second = hand(cache.get_or_insert_with(1, async || unreachable!()));
        assert!(info_span!("second").in_scope(|| poll(&mut second)).is_pending());
        drop(first);
        gate.open();
        let polled = info_span!("second").in_scope(|| poll(&mut second));
        assert_eq!(polled, Poll::Ready(10));
        let told = spans.load();
        assert_eq!(told.parent.as_deref(), Some("first"));
        assert_eq!(told.fields["outcome"], "value");
        assert_eq!(told.events, [(Level::DEBUG, "loading".to_owned())]);
        assert!(told.is_closed);
    });
}

#[test]
fn a_refresh_by_the_spawner_is_within_the_span_of_the_call_that_found_the_value_stale() {
    for result in [Ok(11), Err("down")] {
        traced(|spans| {
            let clock = ManualClock::new();
            let (spawner, background) = async_lru::background(1);
            let mut background = hand(background);
            let cache = builder(&clock).fresh_for(SECOND).spawner(spawner).build();
            cache.insert_blocking(1, 10);
            clock.advance(SECOND);
            let gate = Gate::new();
            let own = (clock.clone(), gate.clone());
            info_span!("caller").in_scope(|| {
                let detached = cache.entry(1).detached();
                let call = detached.or_try_insert_with(move || load(own.0, own.1, result));
                assert_eq!(now(call).unwrap().value, 10);
            });
            assert!(info_span!("executor").in_scope(|| poll(&mut background)).is_pending());
            gate.open();
            assert!(info_span!("executor").in_scope(|| poll(&mut background)).is_pending());
            let told = spans.load();
            assert_eq!(told.parent.as_deref(), Some("caller"));
            assert_eq!(told.fields["refresh"], "true");
            let mut events = vec![(Level::DEBUG, "refresh begun"), (Level::DEBUG, "loading")];
            if result.is_err() {
                let failed = "refresh failed; the old value stays until its deadline";
                events.push((Level::WARN, failed));
            }
            let told_events = told.events.iter().map(|(level, message)| (*level, &**message));
            assert_eq!(told_events.collect::<Vec<_>>(), events);
            assert!(told.is_closed);
        });
    }
}

#[test]
fn the_load_of_a_batch_has_one_span_and_a_memo_its_function_within_its_own() {
    traced(|spans| {
        let cache = builder(&ManualClock::new()).build();
        let pairs = async |keys: Vec<u32>| {
            tracing::debug!("loading");
            keys.into_iter().map(|key| (key, key))
        };
        info_span!("led").in_scope(|| now(cache.get_or_insert_many([1, 2, 3], pairs)));
        let detached = |keys: Vec<u32>| async { keys.into_iter().map(|key| (key, key)) };
        let call = cache.entries([4, 5]).detached().or_insert_with(detached);
        info_span!("detached").in_scope(|| now(call));
        let memo = builder(&ManualClock::new()).name("memo").wrap(|number: u32| {
            tracing::debug!("called");
            async move { number }
        });
        info_span!("memo").in_scope(|| now(memo.call(1)));
        let told = spans.loads();
        let seen = told.iter().map(|it| (it.parent.as_deref(), &*it.fields["cache"]));
        let expected =
            [(Some("led"), "users"), (Some("detached"), "users"), (Some("memo"), "memo")];
        assert_eq!(seen.collect::<Vec<_>>(), expected);
        assert!(told.iter().all(|it| it.fields["outcome"] == "value" && it.is_closed));
        assert_eq!(told[0].events, [(Level::DEBUG, "loading".to_owned())]);
        assert_eq!(told[2].events, [(Level::DEBUG, "called".to_owned())]);
    });
}

#[test]
fn a_load_that_comes_to_no_answer_says_so() {
    traced(|spans| {
        let cache = builder(&ManualClock::new()).build();
        let mut dropped = hand(cache.get_or_insert_with(1, std::future::pending));
        assert!(poll(&mut dropped).is_pending());
        drop(dropped);
        assert_eq!(spans.load().fields["outcome"], "dropped");
        let panics = || poll(&mut hand(cache.get_or_insert_with(2, async || panic!("no value"))));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        let told = &spans.loads()[1];
        assert_eq!(told.fields["outcome"], "panicked");
        assert_eq!(told.events, [(Level::WARN, "load failed".to_owned())]);
        assert!(told.is_closed);
    });
}

#[test]
fn nobody_who_listens_is_no_hindrance() {
    // Without a name, and without a subscriber.
    let cache = AsyncLru::<u32, u32>::new(10);
    assert_eq!(now(cache.get_or_insert_with(1, async || 10)), 10);
    traced(|spans| {
        assert_eq!(now(cache.get_or_insert_with(2, async || 20)), 20);
        assert!(!spans.load().fields.contains_key("cache"));
    });
}
