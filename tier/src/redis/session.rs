//! The calls of one connection.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, ErrorKind as RedisErrorKind, Script, ServerErrorKind, Value};

use super::error;
use super::link::Link;
use super::replies::Replies;
use super::scripts;
use crate::key::Key;
use crate::store::{
    Ask, BoxFuture, Claim, ErrorKind, Found, Instance, Lease, Session, StoreError, Turn,
};

/// One script is given no more keys than this, so that the server's other clients need not wait for long.
const MOST_KEYS: usize = 1_000;
/// Nor much more bytes than this; nor does it give more, but for one larger value.
const MOST_BYTES: usize = 1 << 20;
/// A larger value is not kept, as a server does not send much more at once.
pub(super) const LARGEST: usize = 16 << 20;
/// The longest time, in milliseconds, that is asked for: the server takes no time that it cannot add to its
/// clock.
const LONGEST: u64 = 1 << 50;

/// A connection to one server, for the entries of one space.
pub(super) struct RedisSession {
    pub(super) connection: MultiplexedConnection,
    pub(super) names: Names,
    pub(super) instance: Instance,
    pub(super) link: Arc<Link>,
    pub(super) replies: Replies,
}

/// The names of a space in one server process.
pub(super) struct Names {
    /// The generation's.
    pub(super) generation: String,
    /// That of the number of the last message.
    pub(super) number: String,
    /// What the names of entries begin with.
    pub(super) entries: String,
    pub(super) channel: String,
}

impl RedisSession {
    /// A command that runs `script`, without what only that script is given.
    fn command(&self, script: &Script) -> Cmd {
        let names = &self.names;
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(script.get_hash()).arg(2);
        command.arg(&names.generation).arg(&names.number);
        command.arg(&names.entries).arg(&names.channel);
        command.arg(hexadecimal(self.instance.0)).arg(hexadecimal(fastrand::u64(..)));
        command
    }

    /// Has the server run what [`command`](Self::command) made of `script`.
    async fn run(&self, script: &Script, command: &Cmd) -> Result<Value, StoreError> {
        let mut connection = self.connection.clone();
        let mut reply = command.query_async(&mut connection).await;
        let unknown = RedisErrorKind::Server(ServerErrorKind::NoScript);
        if reply.as_ref().is_err_and(|error: &::redis::RedisError| error.kind() == unknown) {
            reply = match script.load_async(&mut connection).await {
                Ok(_) => command.query_async(&mut connection).await,
                Err(error) => Err(error),
            };
        }
        self.checked(reply)
    }

    /// Ends the link if a reply shows that it is over, and gives none that came after its end.
    fn checked(&self, reply: ::redis::RedisResult<Value>) -> Result<Value, StoreError> {
        if let Err(error) = &reply {
            let error = error::of_call(error);
            // A server that has become a replica hears of no removals from its clients any more.
            if matches!(error.kind(), ErrorKind::Lost | ErrorKind::ReadOnly) {
                self.link.lose();
            }
            return Err(error);
        }
        self.alive()?;
        reply.map_err(|error| error::of_call(&error))
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.link.is_lost() { Err(error::lost("the session is over")) } else { Ok(()) }
    }

    /// The number of the last message that was sent, if the server can be written.
    pub(super) async fn last_number(&self) -> Result<u64, StoreError> {
        let script = &scripts::PING;
        match self.run(script, &self.command(script)).await? {
            Value::Int(number) => u64::try_from(number).map_err(|_| error::unexpected()),
            _ => Err(error::unexpected()),
        }
    }

    /// Looks for some of `keys`, the first ones.
    async fn get_some(&self, keys: &[Key], ask: Ask) -> Result<Vec<Found>, StoreError> {
        let script = &scripts::GET_OR_LEASE;
        let mut bytes = MOST_BYTES.min(keys.len() * self.replies.typical());
        loop {
            let _reservation = self.replies.reserve(bytes).await;
            let mut command = self.command(script);
            command.arg(hexadecimal(ask.lease.0)).arg(rounded_up(ask.lease_for).max(1));
            command.arg(rounded_up(ask.stale_below)).arg(bytes).arg(LARGEST);
            for key in keys {
                command.arg(key.as_ref());
            }
            let found = match self.run(script, &command).await? {
                Value::Int(needed) => {
                    bytes = usize::try_from(needed)
                        .ok()
                        .filter(|needed| *needed > bytes)
                        .ok_or_else(error::unexpected)?;
                    continue;
                }
                reply => read_found(reply).ok_or_else(error::unexpected)?,
            };
            // More than was asked for is as wrong as nothing, with which nobody would get on.
            if found.is_empty() || found.len() > keys.len() {
                return Err(error::unexpected());
            }
            let lengths = found.iter().map(|found| match found {
                Found::Value { bytes, .. } => bytes.len(),
                Found::Absent(_) | Found::Foreign(_) => 0,
            });
            self.replies.note(lengths.max().unwrap_or(0));
            return Ok(found);
        }
    }

    async fn put_some(
        &self,
        lease: Lease,
        values: &[(Key, Vec<u8>)],
        ttl: u64,
    ) -> Result<Vec<bool>, StoreError> {
        let script = &scripts::PUT;
        let mut command = self.command(script);
        command.arg(hexadecimal(lease.0));
        for (key, value) in values {
            let (value, ttl) = storable(value, ttl).unwrap_or_default();
            command.arg(key.as_ref()).arg(value).arg(ttl);
        }
        let kept = match self.run(script, &command).await? {
            Value::Array(kept) => kept.iter().map(|kept| *kept == Value::Int(1)).collect(),
            _ => Vec::new(),
        };
        if kept.len() == values.len() { Ok(kept) } else { Err(error::unexpected()) }
    }
}

impl Session for RedisSession {
    fn get_or_lease<'a>(
        &'a self,
        keys: &'a [Key],
        ask: Ask,
    ) -> BoxFuture<'a, Result<Vec<Found>, StoreError>> {
        Box::pin(async move {
            self.alive()?;
            let mut found = Vec::with_capacity(keys.len());
            while let Some(some) = portions(&keys[found.len()..], |key| key.as_ref().len()).next() {
                found.extend(self.get_some(some, ask).await?);
            }
            Ok(found)
        })
    }

    fn put<'a>(
        &'a self,
        lease: Lease,
        values: &'a [(Key, Vec<u8>)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<bool>, StoreError>> {
        Box::pin(async move {
            self.alive()?;
            let mut kept = Vec::with_capacity(values.len());
            for some in portions(values, |(key, value)| key.as_ref().len() + value.len()) {
                kept.extend(self.put_some(lease, some, rounded_down(ttl)).await?);
            }
            Ok(kept)
        })
    }

    fn release<'a>(
        &'a self,
        lease: Lease,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.alive()?;
            for some in portions(keys, |key| key.as_ref().len()) {
                let script = &scripts::RELEASE;
                let mut command = self.command(script);
                command.arg(hexadecimal(lease.0));
                for key in some {
                    command.arg(key.as_ref());
                }
                self.run(script, &command).await?;
            }
            Ok(())
        })
    }

    fn remove<'a>(
        &'a self,
        keys: &'a [Key],
        claim: Option<Claim>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.alive()?;
            for some in portions(keys, |key| key.as_ref().len()) {
                let script = &scripts::REMOVE;
                let mut command = self.command(script);
                match claim {
                    Some(Claim { lease, lease_for }) => {
                        command.arg(hexadecimal(lease.0)).arg(rounded_up(lease_for).max(1));
                    }
                    None => {
                        command.arg("").arg(0);
                    }
                }
                for key in some {
                    command.arg(key.as_ref());
                }
                self.run(script, &command).await?;
            }
            Ok(())
        })
    }

    fn remove_all(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.alive()?;
            let script = &scripts::REMOVE_ALL;
            self.run(script, &self.command(script)).await?;
            Ok(())
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let before = self.link.last().ok_or_else(|| error::lost("the session is over"))?;
            let number = self.last_number().await?;
            if self.link.has_arrived(before, number) {
                return Ok(());
            }
            self.link.lose();
            Err(error::lost("a message is missing"))
        })
    }
}

/// Reads the reply of `get_or_lease.lua`.
fn read_found(reply: Value) -> Option<Vec<Found>> {
    let Value::Array(reply) = reply else { return None };
    let mut reply = reply.into_iter();
    let mut found = Vec::with_capacity(reply.len());
    while let Some(first) = reply.next() {
        let Value::Int(first) = first else { return None };
        let turn = match first & 3 {
            0 => Turn::Nobodys,
            1 => Turn::Mine,
            2 => Turn::Anothers,
            _ => Turn::Full,
        };
        found.push(match first >> 2 {
            0 => Found::Absent(turn),
            1 => match (reply.next()?, reply.next()?) {
                (Value::BulkString(bytes), Value::Int(left)) => {
                    Found::Value { bytes, left: Duration::from_millis(left.try_into().ok()?), turn }
                }
                _ => return None,
            },
            2 => Found::Foreign(turn),
            _ => return None,
        });
    }
    Some(found)
}

/// Cuts `items`, of `size` bytes each, into what one script is given.
fn portions<T>(mut items: &[T], size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = items.iter().take(MOST_KEYS).take_while(|item| {
            let fits = bytes < MOST_BYTES;
            bytes += size(item);
            fits
        });
        let (some, rest) = items.split_at(fit.count());
        items = rest;
        (!some.is_empty()).then_some(some)
    })
}

/// A value and its time, unless it is too large to be stored.
fn storable(value: &[u8], ttl: u64) -> Option<(&[u8], u64)> {
    (value.len() <= LARGEST).then_some((value, ttl))
}

/// How numbers are spelled that are not counted with.
fn hexadecimal(number: u64) -> String {
    format!("{number:016x}")
}

/// Milliseconds: nothing lives longer than asked for.
fn rounded_down(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(LONGEST, |millis| millis.min(LONGEST))
}

/// Milliseconds: nothing passes for fresh that is not.
fn rounded_up(time: Duration) -> u64 {
    rounded_down(time.saturating_add(Duration::from_nanos(999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_bounded_in_number_and_in_bytes() {
        let lengths = |items: &[usize]| -> Vec<usize> {
            portions(items, |item| *item).map(<[usize]>::len).collect()
        };
        assert!(lengths(&[]).is_empty());
        assert_eq!(lengths(&[0; 2 * MOST_KEYS + 1]), [MOST_KEYS, MOST_KEYS, 1]);
        assert_eq!(lengths(&[MOST_BYTES / 2; 5]), [2, 2, 1]);
        assert_eq!(lengths(&[2 * MOST_BYTES, 1, 1]), [1, 2]);
    }

    #[test]
    fn times_are_rounded_to_the_safe_side() {
        assert_eq!(rounded_down(Duration::from_micros(1_999)), 1);
        assert_eq!(rounded_down(Duration::MAX), LONGEST);
        assert_eq!(rounded_up(Duration::from_micros(1_001)), 2);
        assert_eq!(rounded_up(Duration::from_millis(1)), 1);
        assert_eq!(rounded_up(Duration::ZERO), 0);
        assert_eq!(rounded_up(Duration::MAX), LONGEST);
    }

    #[test]
    fn a_reply_of_another_shape_is_told() {
        let text = || Value::BulkString(b"ann".to_vec());
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![Value::Int(12)]),
            Value::Array(vec![Value::Int(-1)]),
            Value::Array(vec![Value::Int(4)]),
            Value::Array(vec![Value::Int(4), text()]),
            Value::Array(vec![Value::Int(4), text(), text()]),
            Value::Array(vec![Value::Int(4), text(), Value::Int(-1)]),
        ] {
            assert_eq!(read_found(reply), None);
        }
        let value = Found::Value {
            bytes: b"ann".to_vec(),
            left: Duration::from_millis(7),
            turn: Turn::Anothers,
        };
        let reply = Value::Array(vec![Value::Int(6), text(), Value::Int(7), Value::Int(9)]);
        assert_eq!(read_found(reply), Some(vec![value, Found::Foreign(Turn::Mine)]));
    }
}
