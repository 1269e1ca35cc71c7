//! What an error of the server or of the connection means.

use ::redis::{ErrorKind as RedisErrorKind, RedisError, ServerErrorKind};

use crate::store::{ErrorKind, StoreError};

/// An error of a call. Says nothing of what was asked: the server may repeat keys and values of users.
pub(super) fn of_call(error: &RedisError) -> StoreError {
    StoreError::new(kind(error), shown(error))
}

/// An error while connecting, with all that the server said: it knows no keys of users yet.
pub(super) fn of_connect(error: &RedisError) -> StoreError {
    let shown = shown(error);
    let shown = match error.detail() {
        Some(detail) if error.code().is_some() => format!("{shown}: {detail}"),
        _ => shown,
    };
    StoreError::new(kind(error), shown)
}

/// The connection is lost, for a reason that the server did not give.
pub(super) fn lost(why: &'static str) -> StoreError {
    StoreError::new(ErrorKind::Lost, why)
}

/// The server replied with something else than what was asked for.
pub(super) fn unexpected() -> StoreError {
    StoreError::new(ErrorKind::Other, "the server gave an unexpected reply")
}

fn kind(error: &RedisError) -> ErrorKind {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, NoPerm, ReadOnly, TryAgain};

    match error.kind() {
        RedisErrorKind::Io | RedisErrorKind::Parse => ErrorKind::Lost,
        RedisErrorKind::Server(BusyLoading | ClusterDown | MasterDown | TryAgain) => {
            ErrorKind::Lost
        }
        RedisErrorKind::Server(ReadOnly) => ErrorKind::ReadOnly,
        RedisErrorKind::Server(NoPerm) | RedisErrorKind::AuthenticationFailed => ErrorKind::Denied,
        _ => match error.code() {
            Some("OOM") => ErrorKind::Full,
            Some("NOAUTH" | "WRONGPASS" | "DENIED") => ErrorKind::Denied,
            _ => kind_in_script(error.detail().unwrap_or_default()),
        },
    }
}

/// What old servers say of an error in a script without a code of its own.
fn kind_in_script(detail: &str) -> ErrorKind {
    if detail.contains("The user executing the script can't") {
        ErrorKind::Denied
    } else if detail.contains("-READONLY ") {
        ErrorKind::ReadOnly
    } else {
        ErrorKind::Other
    }
}

fn shown(error: &RedisError) -> String {
    match (error.code(), error.kind()) {
        (Some(code), _) => format!("the server replied {code}"),
        (None, RedisErrorKind::Io) => error.to_string(),
        (None, _) => error.category().to_owned(),
    }
}
