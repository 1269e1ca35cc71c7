//! What a store in memory is told to do wrong.

use std::collections::HashMap;

use crate::store::{ErrorKind, Instance};

#[derive(Default)]
pub(super) struct Settings {
    pub(super) is_down: bool,
    /// What connections fail with.
    pub(super) refused: Option<ErrorKind>,
    pub(super) failures: Option<Failures>,
    /// Whose calls wait.
    pub(super) stopped: Scope,
    /// Whose messages are held back.
    pub(super) delayed: Scope,
    /// So many messages reach nobody.
    pub(super) lost: usize,
    /// So many messages do not reach these.
    pub(super) lost_to: HashMap<Instance, usize>,
    /// Calls are pending once before they take effect, and once after.
    pub(super) in_steps: bool,
}

pub(super) struct Failures {
    pub(super) kind: ErrorKind,
    /// For so many calls, or all.
    pub(super) calls: Option<usize>,
}

/// The instances that something applies to.
#[derive(Default)]
pub(super) enum Scope {
    #[default]
    Nobody,
    Only(Vec<Instance>),
    Everybody,
}

impl Settings {
    /// What the next call fails with.
    pub(super) fn next_failure(&mut self) -> Option<ErrorKind> {
        let failures = self.failures.as_mut()?;
        let kind = failures.kind;
        if let Some(calls) = &mut failures.calls {
            if *calls == 0 {
                self.failures = None;
                return None;
            }
            *calls -= 1;
        }
        Some(kind)
    }

    /// Whether the next message is lost to all.
    pub(super) fn loses_next(&mut self) -> bool {
        count_down(&mut self.lost)
    }

    /// Whether the next message to `instance` is lost.
    pub(super) fn loses_next_to(&mut self, instance: Instance) -> bool {
        self.lost_to.get_mut(&instance).is_some_and(count_down)
    }
}

impl Scope {
    pub(super) fn covers(&self, instance: Instance) -> bool {
        match self {
            Self::Nobody => false,
            Self::Only(instances) => instances.contains(&instance),
            Self::Everybody => true,
        }
    }

    pub(super) fn add(&mut self, instance: Instance) {
        match self {
            Self::Nobody => *self = Self::Only(vec![instance]),
            Self::Only(instances) => instances.push(instance),
            Self::Everybody => {}
        }
    }

    pub(super) fn everybody(&mut self) {
        *self = Self::Everybody;
    }

    pub(super) fn nobody(&mut self) {
        *self = Self::Nobody;
    }
}

/// Takes one off, if there is one.
fn count_down(left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left -= usize::from(is_left);
    is_left
}
