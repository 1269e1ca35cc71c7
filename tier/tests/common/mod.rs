//! What the tests share: a world in memory, and a way to run tests that need a server under each runtime that `RedisStore` is built for.
//!
//! Where there is no server program on the path they say so and count as ignored; with the environment
//! variable `REQUIRE_REDIS=1` they fail.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "each test program uses a part"
)]

pub mod server;
pub mod world;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use futures_lite::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name, and what it does.
pub type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Defines `TESTS`, the given asynchronous functions, which [`run`] takes.
#[macro_export]
macro_rules! server_tests {
    ($($name:ident)*) => {
        pub(crate) const TESTS: &[$crate::common::Test] =
            &[$((stringify!($name), || Box::pin($name()))),*];
    };
}

/// How a runtime runs a future.
type BlockOn = fn(Pin<Box<dyn Future<Output = ()>>>);

const RUNTIMES: &[(&str, BlockOn)] = &[
    #[cfg(feature = "tokio")]
    ("tokio", |future| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(future);
    }),
    #[cfg(feature = "smol")]
    ("smol", |future| smol::block_on(future)),
];

/// Runs `tests` as the `main` that `cargo test` generates does; for `harness = false`.
pub fn run(tests: &[&[Test]]) -> ExitCode {
    let required = std::env::var_os("REQUIRE_REDIS").is_some_and(|value| value == "1");
    let present = server::program().is_some();
    if !present {
        eprintln!("no redis-server or valkey-server on the path");
    }
    let mut trials = Vec::new();
    for &(runtime, block_on) in RUNTIMES {
        for &(name, test) in tests.iter().copied().flatten() {
            let trial = Trial::test(format!("{runtime}::{name}"), move || {
                if !present {
                    return Err(Failed::from("no redis-server or valkey-server on the path"));
                }
                let run = || block_on(Box::pin(within(test())));
                catch_unwind(AssertUnwindSafe(run)).map_err(|_| Failed::without_message())
            });
            trials.push(trial.with_ignored_flag(!present && !required));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Waits for `future`, but not for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        sleep(Duration::from_secs(30)).await;
        panic!("it takes too long");
    };
    future.or(late).await
}

/// Sleeps under any runtime.
pub async fn sleep(time: Duration) {
    smol::Timer::after(time).await;
}
