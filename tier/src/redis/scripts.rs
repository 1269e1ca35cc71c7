//! The scripts that run in the server, each in one step.

use std::sync::LazyLock;

use ::redis::Script;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(include_str!("prelude.lua"), "\n", include_str!($file)))
        })
    };
}

pub(super) static GET_OR_LEASE: LazyLock<Script> = script!("get_or_lease.lua");
pub(super) static PUT: LazyLock<Script> = script!("put.lua");
pub(super) static RELEASE: LazyLock<Script> = script!("release.lua");
pub(super) static REMOVE: LazyLock<Script> = script!("remove.lua");
pub(super) static REMOVE_ALL: LazyLock<Script> = script!("remove_all.lua");
pub(super) static PING: LazyLock<Script> = script!("ping.lua");
