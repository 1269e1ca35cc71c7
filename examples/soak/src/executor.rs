//! The executors to run on.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Tokio,
    TokioCurrentThread,
    Smol,
    AsyncStd,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        match name {
            "tokio" => Ok(Self::Tokio),
            "tokio-current-thread" => Ok(Self::TokioCurrentThread),
            "smol" => Ok(Self::Smol),
            "async-std" => Ok(Self::AsyncStd),
            _ => Err(format!("unknown executor {name}")),
        }
    }
}

/// An executor that is there.
pub(crate) enum Executor {
    Tokio(Runtime),
    Smol,
    AsyncStd,
}

impl Executor {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Tokio => Self::Tokio(Builder::new_multi_thread().build().unwrap()),
            Kind::TokioCurrentThread => Self::Tokio(Builder::new_current_thread().build().unwrap()),
            Kind::Smol => Self::Smol,
            Kind::AsyncStd => Self::AsyncStd,
        }
    }

    /// Spawns all tasks and waits until all are over. A panic of one goes on here.
    pub(crate) fn run<F>(&self, tasks: impl Iterator<Item = F>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self {
            Self::Tokio(runtime) => runtime.block_on(async {
                let tasks: Vec<_> = tasks.map(|task| runtime.spawn(task)).collect();
                for task in tasks {
                    task.await.unwrap();
                }
            }),
            Self::Smol => smol::block_on(async {
                let tasks: Vec<_> = tasks.map(smol::spawn).collect();
                for task in tasks {
                    task.await;
                }
            }),
            Self::AsyncStd => async_std::task::block_on(async {
                let tasks: Vec<_> = tasks.map(async_std::task::spawn).collect();
                for task in tasks {
                    task.await;
                }
            }),
        }
    }
}
