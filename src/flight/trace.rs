//! The span of a load, for who traces.

#[cfg(not(feature = "tracing"))]
pub(crate) use self::off::LoadSpan;
#[cfg(feature = "tracing")]
pub(crate) use self::on::LoadSpan;

/// With the feature `tracing`.
#[cfg(feature = "tracing")]
mod on {
    use std::future::Future;
    use std::sync::Arc;
    use std::thread;

    use tracing::span::Entered;
    use tracing::{Instrument, Level, Span, event, field, span};

    use crate::clock::Clock;

    /// The span of a load: a child of the span in which it was begun, wherever it is polled.
    pub(crate) struct LoadSpan {
        span: Span,
        /// When it began; `None` once it has ended, or if nobody records it.
        begun: Option<Begun>,
        /// For events, as nobody may want the span.
        cache: Option<&'static str>,
        is_refresh: bool,
    }

    struct Begun {
        clock: Arc<dyn Clock>,
        at: std::time::Duration,
    }

    impl LoadSpan {
        /// Begins a load of the cache of this name.
        pub(crate) fn begin(
            cache: Option<&'static str>,
            is_refresh: bool,
            clock: impl FnOnce() -> Arc<dyn Clock>,
        ) -> Self {
            let span = span!(
                target: "async_lru",
                Level::DEBUG,
                "load",
                cache,
                refresh = is_refresh,
                outcome = field::Empty,
                elapsed_us = field::Empty,
            );
            let begun = (!span.is_disabled()).then(|| {
                let clock = clock();
                Begun { at: clock.now(), clock }
            });
            if is_refresh {
                event!(target: "async_lru", parent: &span, Level::DEBUG, cache, "refresh begun");
            }
            Self { span, begun, cache, is_refresh }
        }

        /// That of a part of a load, which has none of its own.
        pub(crate) fn none() -> Self {
            Self { span: Span::none(), begun: None, cache: None, is_refresh: false }
        }

        /// Makes the load within the span.
        pub(crate) fn call<R>(&self, load: impl FnOnce() -> R) -> R {
            self.span.in_scope(load)
        }

        /// Enters the span for a poll, in a future that is to be no larger for it.
        pub(crate) fn enter(&self) -> Entered<'_> {
            self.span.enter()
        }

        /// Has the load polled within the span.
        pub(crate) fn instrument<F: Future>(
            &self,
            load: F,
        ) -> impl Future<Output = F::Output> + use<F> {
            load.instrument(self.span.clone())
        }

        /// Takes note that the load has given its answer.
        pub(crate) fn end(&mut self, is_value: bool) {
            self.record(if is_value { "value" } else { "error" });
            if !is_value {
                self.tell_of_failure();
            }
        }

        fn record(&mut self, outcome: &'static str) {
            if let Some(Begun { clock, at }) = self.begun.take() {
                let elapsed = clock.now().saturating_sub(at).as_micros();
                self.span.record("outcome", outcome);
                self.span.record("elapsed_us", u64::try_from(elapsed).unwrap_or(u64::MAX));
            }
        }

        fn tell_of_failure(&self) {
            match self.is_refresh {
                true => event!(
                    target: "async_lru", parent: &self.span, Level::WARN, cache = self.cache,
                    "refresh failed; the old value stays until its deadline"
                ),
                false => event!(
                    target: "async_lru", parent: &self.span, Level::WARN, cache = self.cache,
                    "load failed"
                ),
            }
        }
    }

    /// A load that comes to no answer.
    impl Drop for LoadSpan {
        fn drop(&mut self) {
            if self.begun.is_none() {
                return;
            }
            if thread::panicking() {
                // No clock, which is the user's and may panic too.
                self.begun = None;
                self.span.record("outcome", "panicked");
                self.tell_of_failure();
            } else {
                self.record("dropped");
            }
        }
    }
}

/// Without it: nothing.
#[cfg(not(feature = "tracing"))]
mod off {
    use std::future::Future;
    use std::sync::Arc;

    use crate::clock::Clock;

    pub(crate) struct LoadSpan;

    pub(crate) struct Entered;

    impl LoadSpan {
        #[inline(always)]
        pub(crate) fn begin(
            _: Option<&'static str>,
            _: bool,
            _: impl FnOnce() -> Arc<dyn Clock>,
        ) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn none() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn call<R>(&self, load: impl FnOnce() -> R) -> R {
            load()
        }

        #[inline(always)]
        pub(crate) fn enter(&self) -> Entered {
            Entered
        }

        #[inline(always)]
        pub(crate) fn instrument<F: Future>(&self, load: F) -> F {
            load
        }

        #[inline(always)]
        pub(crate) fn end(&mut self, _: bool) {}
    }
}
