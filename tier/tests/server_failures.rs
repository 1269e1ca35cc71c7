//! What a cache does while its server fails: with a server that the tests start, and nothing between.
//!
//! No call may fail or hang, none gives what was removed, and the figures tell what is wrong. What takes a
//! while is waited for, however long it takes.

mod common;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_lru_tier::{Builder, ErrorKind, Figures, RedisStore, Tiered};
use redis::{Connection, Value};

use common::server::Server;
use common::world::Plain;
use common::{sleep, within};

type Users = Tiered<str, String>;

server_tests! {
    one_load_serves_all_instances
    a_server_that_is_killed_fails_no_call_and_is_used_again
    what_was_saved_before_a_removal_does_not_come_back_with_the_server
    too_many_removals_for_a_dead_server_become_one_of_everything
    a_server_that_hangs_is_left_alone_until_it_answers
    a_paused_server_delays_a_removal_and_loses_none
    a_connection_that_is_closed_is_made_anew_and_nothing_of_before_is_kept
    closing_the_connections_of_others_changes_nothing
    a_full_server_keeps_nothing_and_removes
    a_server_that_evicts_everything_tells_no_lies
    without_the_generation_all_entries_are_gone
    without_the_number_of_the_last_message_all_connect_anew
    a_server_that_becomes_a_replica_is_left_and_taken_again
    without_the_password_the_cache_works_alone
    a_password_that_changes_meanwhile_is_an_error_until_it_is_right
    what_the_server_forbids_is_loaded
    something_else_under_a_key_is_replaced
    what_cannot_be_decoded_is_replaced
    versions_share_nothing
    a_server_that_is_emptied_tells_no_lies
    scripts_that_were_forgotten_are_loaded_again
    what_an_instance_could_not_remove_ends_with_its_time_to_live
}

fn main() -> ExitCode {
    common::run(&[TESTS])
}

/// What the instances load from, and how often.
#[derive(Clone)]
struct Source(Arc<Mutex<(String, usize)>>);

impl Source {
    fn new(value: &str) -> Self {
        Self(Arc::new(Mutex::new((value.to_owned(), 0))))
    }

    fn write(&self, value: &str) {
        self.0.lock().unwrap().0 = value.to_owned();
    }

    fn read(&self) -> String {
        let mut row = self.0.lock().unwrap();
        row.1 += 1;
        row.0.clone()
    }

    fn reads(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

/// Begins an instance whose store may take its time, as the machine may be busy.
fn builder(url: &str) -> Builder<str, String> {
    Tiered::builder(RedisStore::open(url).unwrap(), Plain, sleep)
        .namespace("users")
        .timeout(Duration::from_secs(5))
        .heartbeat(Duration::from_millis(100))
}

/// The same for a server that is to be found slow; the driver does not find out by itself.
fn impatient(url: &str) -> Builder<str, String> {
    builder(url).timeout(Duration::from_millis(100)).heartbeat(Duration::from_secs(60))
}

/// Builds an instance and drives it, on the runtime that the test runs on.
fn drive(builder: Builder<str, String>) -> Users {
    let users = builder.build();
    let driver = users.driver();
    #[cfg(feature = "tokio")]
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(driver);
        return users;
    }
    smol::spawn(driver).detach();
    users
}

async fn start(builder: Builder<str, String>) -> Users {
    let users = drive(builder);
    within(users.linked()).await;
    users
}

async fn instance(server: &Server) -> Users {
    start(builder(&server.url())).await
}

async fn get(users: &Users, key: &str, source: &Source) -> String {
    within(users.get(key, async || source.read())).await
}

/// What is wrong with the store that does not remove `key`, if it does not.
async fn invalidate(users: &Users, key: &str) -> Option<ErrorKind> {
    within(users.invalidate(key)).await.err().map(|error| error.kind())
}

async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_true().await {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn until_figures(what: &str, users: &Users, is_true: impl Fn(&Figures) -> bool) {
    until(what, async || is_true(&users.figures())).await;
}

/// Waits until `users` gives what `source` has, which it must do by itself.
async fn until_new(users: &Users, key: &str, source: &Source) {
    let new = source.0.lock().unwrap().0.clone();
    until("the new value", async || get(users, key, source).await == new).await;
}

/// Waits until `users` is linked and has caught up, and shows that removals go from it to `other` and back.
async fn work_together(users: &Users, other: &Users, source: &Source) {
    for (one, two) in [(users, other), (other, users)] {
        for each in [one, two] {
            until_figures("the link", each, |now| now.linked && now.pending_removals == 0).await;
        }
        get(one, "joint", source).await;
        get(two, "joint", source).await;
        let before = source.0.lock().unwrap().0.clone();
        source.write(&format!("{before}+"));
        // What failed is sent again.
        let _ = invalidate(one, "joint").await;
        assert_eq!(get(one, "joint", source).await, format!("{before}+"));
        until_new(two, "joint", source).await;
        source.write(&before);
        let _ = invalidate(one, "joint").await;
        until_new(two, "joint", source).await;
    }
}

fn administrator(admin: &mut Connection, command: &[&str]) -> Value {
    let mut asked = redis::cmd(command[0]);
    for word in &command[1..] {
        asked.arg(word);
    }
    asked.query(admin).unwrap()
}

async fn one_load_serves_all_instances() {
    let server = Server::start();
    let source = Source::new("value");
    let mut instances = Vec::new();
    for _ in 0..4 {
        instances.push(instance(&server).await);
    }
    let slowly = async || {
        sleep(Duration::from_millis(50)).await;
        source.read()
    };
    let calls = instances.iter().flat_map(|users| [users; 5]).map(|users| async {
        assert_eq!(users.get("ann", slowly).await, "value");
    });
    // Polled together.
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    within(std::future::poll_fn(|cx| {
        calls.retain_mut(|call| call.as_mut().poll(cx).is_pending());
        if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }))
    .await;
    assert_eq!(source.reads(), 1);
    work_together(&instances[0], &instances[3], &source).await;
}

// Down.

async fn a_server_that_is_killed_fails_no_call_and_is_used_again() {
    let mut server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    assert_eq!(get(&users, "ann", &source).await, "old");
    assert_eq!(get(&other, "ann", &source).await, "old");
    server.kill();
    source.write("new");
    assert_eq!(invalidate(&users, "ann").await, Some(ErrorKind::Lost));
    assert_eq!(users.figures().pending_removals, 1);
    assert_eq!(get(&users, "ann", &source).await, "new");
    assert_eq!(get(&users, "bob", &source).await, "new");
    assert!(users.figures().loads_alone >= 2);
    until_figures("the loss", &other, |now| !now.linked && now.links_lost == 1).await;
    until_new(&other, "ann", &source).await;
    until_figures("failed connections", &users, |now| now.errors >= 2).await;

    server.restart();
    work_together(&users, &other, &source).await;
    for users in [&users, &other] {
        assert_eq!(get(users, "ann", &source).await, "new");
        assert_eq!((users.figures().links, users.figures().links_lost), (2, 1));
    }
}

async fn what_was_saved_before_a_removal_does_not_come_back_with_the_server() {
    let mut server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    server.command("SAVE");
    source.write("new");
    assert_eq!(invalidate(&users, "ann").await, None);
    server.kill();
    server.restart();
    // The server has it.
    server.name("users:1:*:v:ann");
    let third = instance(&server).await;
    for users in [&users, &other, &third] {
        until_figures("the link", users, |now| now.linked).await;
        assert_eq!(get(users, "ann", &source).await, "new");
    }
    work_together(&users, &other, &source).await;
}

async fn too_many_removals_for_a_dead_server_become_one_of_everything() {
    let mut server = Server::start();
    let users = start(builder(&server.url()).max_pending_removals(2)).await;
    let (other, source) = (instance(&server).await, Source::new("old"));
    server.kill();
    for key in ["a", "b", "c"] {
        assert_eq!(invalidate(&users, key).await, Some(ErrorKind::Lost));
    }
    assert_eq!(users.figures().pending_removals, 1);
    server.restart();
    // Before that, so that there is something to be removed: the other may be first.
    until_figures("the link", &other, |now| now.linked).await;
    get(&other, "d", &source).await;
    until_figures("the removal", &users, |now| now.linked && now.pending_removals == 0).await;
    work_together(&users, &other, &source).await;
}

// Slow.

async fn a_server_that_hangs_is_left_alone_until_it_answers() {
    let server = Server::start();
    let users = start(impatient(&server.url())).await;
    let (other, source) = (instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    get(&other, "ann", &source).await;
    server.stop();
    source.write("new");
    assert_eq!(invalidate(&users, "ann").await, Some(ErrorKind::TimedOut));
    assert_eq!(get(&users, "ann", &source).await, "new");
    for key in 0..10 {
        assert_eq!(get(&users, &key.to_string(), &source).await, "new");
    }
    let figures = users.figures();
    assert!(!figures.linked && figures.time_outs >= 3, "{figures:?}");
    assert_eq!(figures.breaker_opened, 1);
    server.cont();
    until_figures("the removal", &users, |now| now.linked && now.pending_removals == 0).await;
    until_new(&other, "ann", &source).await;
    work_together(&users, &other, &source).await;
}

async fn a_paused_server_delays_a_removal_and_loses_none() {
    let server = Server::start();
    let users = start(impatient(&server.url())).await;
    let (other, source) = (instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    get(&other, "ann", &source).await;
    // Nothing ends it sooner.
    server.command("CLIENT PAUSE 2000 ALL");
    source.write("new");
    assert_eq!(invalidate(&users, "ann").await, Some(ErrorKind::TimedOut));
    assert_eq!(get(&users, "ann", &source).await, "new");
    assert_eq!(get(&users, "bob", &source).await, "new");
    assert!(users.figures().time_outs >= 1);
    until_new(&other, "ann", &source).await;
    work_together(&users, &other, &source).await;
    assert_eq!(get(&users, "ann", &source).await, "new");
}

// Connections.

async fn a_connection_that_is_closed_is_made_anew_and_nothing_of_before_is_kept() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    get(&other, "ann", &source).await;
    assert_eq!(server.command("CLIENT KILL TYPE pubsub"), Value::Int(2));
    for users in [&users, &other] {
        until_figures("the link", users, |now| now.links == 2 && now.linked).await;
        assert_eq!(users.figures().links_lost, 1);
        // The server still has it.
        let hits = users.figures().hits;
        assert_eq!(get(users, "ann", &source).await, "old");
        assert_eq!(users.figures().hits, hits + 1);
    }
    assert_eq!(source.reads(), 1);
    work_together(&users, &other, &source).await;
}

async fn closing_the_connections_of_others_changes_nothing() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    let _idle = server.admin();
    assert_eq!(server.command("CLIENT KILL TYPE normal"), Value::Int(1));
    work_together(&users, &other, &source).await;
    assert_eq!((users.figures().links_lost, other.figures().links_lost), (0, 0));
    assert_eq!(get(&other, "ann", &source).await, "old");
}

// Memory.

async fn a_full_server_keeps_nothing_and_removes() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    get(&other, "ann", &source).await;
    let (puts, full) = (users.figures().puts, users.figures().full);
    server.command("CONFIG SET maxmemory 1");
    // Found all the same.
    let third = instance(&server).await;
    assert_eq!(get(&third, "ann", &source).await, "old");
    source.write("new");
    for _ in 0..3 {
        assert_eq!(get(&users, "bob", &source).await, "new");
    }
    assert_eq!(source.reads(), 2, "kept for a while");
    assert_eq!((users.figures().puts, users.figures().full), (puts, full + 1));
    assert_eq!(invalidate(&users, "ann").await, None);
    assert_eq!(get(&users, "ann", &source).await, "new");
    until_new(&other, "ann", &source).await;
    // A value that is written is removed instead.
    source.write("newer");
    let _ = within(users.insert("ann", "newer".to_owned())).await;
    assert_eq!(get(&users, "ann", &source).await, "newer");
    until_new(&other, "ann", &source).await;
    server.command("CONFIG SET maxmemory 0");
    work_together(&users, &other, &source).await;
    assert_eq!(users.figures().links_lost, 0);
}

async fn a_server_that_evicts_everything_tells_no_lies() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    let used = |server: &Server| -> usize {
        let info: String = redis::cmd("INFO").arg("memory").query(&mut server.admin()).unwrap();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        used.unwrap().trim().parse().unwrap()
    };
    server.command("CONFIG SET maxmemory-policy allkeys-lru");
    server.command(&format!("CONFIG SET maxmemory {}", used(&server) + 200_000));
    let long = |round: usize| format!("{round}{}", "x".repeat(10_000));
    for round in 0..10 {
        source.write(&long(round));
        for key in 0..20 {
            let key = format!("{round}:{key}");
            assert_eq!(get(&users, &key, &source).await, long(round));
        }
        // Whatever the server has evicted by now.
        get(&other, "ann", &source).await;
        source.write("new");
        let _ = invalidate(&users, "ann").await;
        assert_eq!(get(&users, "ann", &source).await, "new");
        until_new(&other, "ann", &source).await;
        source.write("old");
        let _ = invalidate(&other, "ann").await;
        assert_eq!(get(&other, "ann", &source).await, "old");
        until_new(&users, "ann", &source).await;
    }
    let info: String = redis::cmd("INFO").arg("stats").query(&mut server.admin()).unwrap();
    assert!(!info.contains("evicted_keys:0\r"), "nothing was evicted");
    work_together(&users, &other, &source).await;
}

async fn without_the_generation_all_entries_are_gone() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    let name = server.name("users:1:*:gen");
    server.command(&format!("DEL {name}"));
    assert_eq!(get(&other, "ann", &source).await, "old");
    assert_eq!((source.reads(), other.figures().hits), (2, 0));
    work_together(&users, &other, &source).await;
    assert_eq!(users.figures().links_lost, 0);
}

async fn without_the_number_of_the_last_message_all_connect_anew() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    assert_eq!(invalidate(&users, "bob").await, None);
    get(&users, "ann", &source).await;
    get(&other, "ann", &source).await;
    let name = server.name("users:1:*:seq");
    server.command(&format!("DEL {name}"));
    for users in [&users, &other] {
        until_figures("the link", users, |now| now.links == 2 && now.linked).await;
    }
    work_together(&users, &other, &source).await;
}

// Another server in its place.

async fn a_server_that_becomes_a_replica_is_left_and_taken_again() {
    let (server, primary) = (Server::start(), Server::start());
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    get(&other, "ann", &source).await;
    server.command(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    source.write("new");
    let kind = invalidate(&users, "ann").await;
    assert!(matches!(kind, Some(ErrorKind::ReadOnly | ErrorKind::Lost)), "{kind:?}");
    assert_eq!(get(&users, "ann", &source).await, "new");
    // By itself, with the next sign of life.
    until_figures("the loss", &other, |now| !now.linked && now.links_lost == 1).await;
    until_new(&other, "ann", &source).await;
    until_figures("failed connections", &other, |now| now.errors >= 2).await;
    assert_eq!(other.figures().links, 1, "nobody links to a replica");

    server.command("REPLICAOF NO ONE");
    work_together(&users, &other, &source).await;
    assert_eq!(get(&users, "ann", &source).await, "new");
    assert_eq!(get(&other, "ann", &source).await, "new");
}

// Rights.

async fn without_the_password_the_cache_works_alone() {
    let server = Server::with(&["--requirepass", "secret"]);
    let source = Source::new("value");
    let wrong = format!("redis://:wrong@127.0.0.1:{}/", server.port());
    for url in [server.url(), wrong] {
        let users = drive(builder(&url));
        until_figures("failed connections", &users, |now| now.errors >= 2).await;
        let before = source.reads();
        for _ in 0..3 {
            assert_eq!(get(&users, "ann", &source).await, "value");
        }
        assert_eq!(source.reads(), before + 1, "kept for a while");
        assert_eq!(invalidate(&users, "ann").await, Some(ErrorKind::Denied));
        let figures = users.figures();
        assert_eq!((figures.links, figures.loads_alone), (0, 1));
        assert_eq!(figures.last_error, Some(ErrorKind::Denied));
        assert!(!figures.linked);
    }
    let right = format!("redis://:secret@127.0.0.1:{}/", server.port());
    let (users, other) = (start(builder(&right)).await, start(builder(&right)).await);
    work_together(&users, &other, &source).await;
}

async fn a_password_that_changes_meanwhile_is_an_error_until_it_is_right() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    let mut admin = server.admin();
    administrator(&mut admin, &["CONFIG", "SET", "requirepass", "secret"]);
    // Who is in stays in.
    administrator(&mut admin, &["CLIENT", "KILL", "TYPE", "pubsub"]);
    for users in [&users, &other] {
        let is_denied = |now: &Figures| !now.linked && now.last_error == Some(ErrorKind::Denied);
        until_figures("the loss", users, is_denied).await;
    }
    source.write("new");
    assert_eq!(invalidate(&users, "ann").await, Some(ErrorKind::Denied));
    assert_eq!(get(&users, "ann", &source).await, "new");
    assert_eq!(get(&other, "ann", &source).await, "new");
    administrator(&mut admin, &["CONFIG", "SET", "requirepass", ""]);
    work_together(&users, &other, &source).await;
    assert_eq!(get(&other, "ann", &source).await, "new");
}

async fn what_the_server_forbids_is_loaded() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    get(&other, "ann", &source).await;
    server.command("ACL SETUSER default -evalsha");
    source.write("new");
    let errors = users.figures().errors;
    assert_eq!(get(&users, "bob", &source).await, "new");
    let kind = invalidate(&users, "ann").await;
    assert!(matches!(kind, Some(ErrorKind::Denied | ErrorKind::Lost)), "{kind:?}");
    assert_eq!(get(&users, "ann", &source).await, "new");
    assert!(users.figures().errors > errors);
    // Its heartbeat is denied too.
    until_figures("the loss", &other, |now| !now.linked).await;
    until_new(&other, "ann", &source).await;
    assert_eq!(other.figures().last_error, Some(ErrorKind::Denied));
    server.command("ACL SETUSER default +evalsha");
    work_together(&users, &other, &source).await;
}

// What lies there.

async fn something_else_under_a_key_is_replaced() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("value"));
    get(&users, "ann", &source).await;
    let name = server.name("users:1:*:v:ann");
    server.command(&format!("DEL {name}"));
    server.command(&format!("RPUSH {name} 1 2"));
    assert_eq!(get(&other, "ann", &source).await, "value");
    let figures = other.figures();
    assert_eq!((figures.foreign, figures.puts, figures.errors), (1, 1, 0));
    let third = instance(&server).await;
    assert_eq!(get(&third, "ann", &source).await, "value");
    assert_eq!((third.figures().hits, source.reads()), (1, 2));
    // It can be removed as well.
    server.command(&format!("DEL {name}"));
    server.command(&format!("RPUSH {name} 1 2"));
    source.write("new");
    assert_eq!(invalidate(&third, "ann").await, None);
    assert_eq!(get(&third, "ann", &source).await, "new");
    assert_eq!(third.figures().foreign, 0);
}

async fn what_cannot_be_decoded_is_replaced() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("value"));
    get(&users, "ann", &source).await;
    let name = server.name("users:1:*:v:ann");
    let mut set = redis::cmd("SET");
    set.arg(name).arg(&[0xff_u8][..]).arg("KEEPTTL").exec(&mut server.admin()).unwrap();
    assert_eq!(get(&other, "ann", &source).await, "value");
    assert!(other.figures().undecodable >= 1);
    let third = instance(&server).await;
    assert_eq!(get(&third, "ann", &source).await, "value");
    assert_eq!((third.figures().hits, third.figures().undecodable), (1, 0));
    assert_eq!(source.reads(), 2);
}

async fn versions_share_nothing() {
    let server = Server::start();
    let old = start(builder(&server.url()).version(1)).await;
    let new = start(builder(&server.url()).version(2)).await;
    let source = Source::new("old");
    assert_eq!(get(&old, "ann", &source).await, "old");
    source.write("new");
    assert_eq!(get(&new, "ann", &source).await, "new");
    assert_eq!((new.figures().hits, new.figures().undecodable), (0, 0));
    assert_eq!(get(&old, "ann", &source).await, "old");
    server.name("users:1:*:v:ann");
    server.name("users:2:*:v:ann");
}

async fn a_server_that_is_emptied_tells_no_lies() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    assert_eq!(invalidate(&users, "bob").await, None);
    get(&users, "ann", &source).await;
    get(&other, "ann", &source).await;
    server.command("FLUSHALL");
    source.write("new");
    // Either reaches the other, or finds that messages begin anew.
    let _ = invalidate(&users, "ann").await;
    assert_eq!(get(&users, "ann", &source).await, "new");
    until_new(&other, "ann", &source).await;
    for users in [&users, &other] {
        until_figures("the link", users, |now| now.links == 2 && now.linked).await;
    }
    work_together(&users, &other, &source).await;
}

async fn scripts_that_were_forgotten_are_loaded_again() {
    let server = Server::start();
    let (users, other, source) =
        (instance(&server).await, instance(&server).await, Source::new("old"));
    get(&users, "ann", &source).await;
    for key in ["ann", "bob", "cid"] {
        server.command("SCRIPT FLUSH");
        assert_eq!(get(&other, key, &source).await, "old");
        server.command("SCRIPT FLUSH");
        assert_eq!(invalidate(&users, key).await, None);
    }
    work_together(&users, &other, &source).await;
    for users in [&users, &other] {
        assert_eq!((users.figures().errors, users.figures().links_lost), (0, 0));
    }
}

async fn what_an_instance_could_not_remove_ends_with_its_time_to_live() {
    let server = Server::start();
    let other = start(builder(&server.url()).ttl(Duration::from_secs(1))).await;
    let source = Source::new("old");
    get(&other, "ann", &source).await;
    // Never linked, as nobody drives it.
    let users = builder(&server.url()).build();
    source.write("new");
    assert_eq!(invalidate(&users, "ann").await, Some(ErrorKind::Lost));
    drop(users);
    until_new(&other, "ann", &source).await;
}
