//! Wrapped functions among the types of services: one that has captured a client of reqwest, and one in the
//! state of axum.

use std::net::Ipv4Addr;

use async_lru::{AsyncLru, Memo, TryMemo};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use tokio::net::TcpListener;

/// A handle that is cloned for each call; its futures hold it and much else.
#[tokio::test(flavor = "multi_thread")]
async fn a_captured_client() {
    let client = reqwest::Client::new();
    let pages: TryMemo<String, String, String, reqwest::Error> =
        AsyncLru::builder().try_wrap(move |url: String| {
            let client = client.clone();
            async move { client.get(url).send().await?.text().await }
        });
    // Nothing is asked on the way to an address that there cannot be.
    let call = tokio::spawn(async move { pages.call("no address".to_owned()).await });
    assert!(call.await.unwrap().unwrap_err().is_builder());
}

#[derive(Clone)]
struct Users {
    names: Memo<u64, u64, String>,
}

async fn name(State(users): State<Users>, Path(id): Path<u64>) -> String {
    users.names.call(id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_axum() {
    let load = |id| async move {
        tokio::task::yield_now().await;
        format!("name {id}")
    };
    let users = Users { names: AsyncLru::builder().wrap(load) };
    let service = Router::new().route("/users/{id}", get(name)).with_state(users.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/users/5", listener.local_addr().unwrap());
    let server = tokio::spawn(axum::serve(listener, service).into_future());

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..3 {
        let answer = client.get(&url).send().await.unwrap().text().await.unwrap();
        assert_eq!(answer, "name 5");
    }
    let stats = users.names.stats();
    assert_eq!((stats.loads, stats.hits), (1, 2));
    server.abort();
}
