//! Wrapped functions among the types of services: one that has captured a client of reqwest, and one in the
//! state of axum.

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_lru::{AsyncLru, TryMemo};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use tokio::net::TcpListener;

/// A handle that is cloned for each call; its futures hold it and much else.
async fn call_with_a_captured_client() {
    let client = reqwest::Client::new();
    let pages: TryMemo<String, String, String, reqwest::Error> =
        AsyncLru::builder().try_wrap(move |url: String| {
            let client = client.clone();
            async move { client.get(url).send().await?.text().await }
        });
    // Nothing is asked on the way to an address that there cannot be.
    assert!(pages.call("no address".to_owned()).await.unwrap_err().is_builder());
}

#[test]
fn a_captured_client() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(runtime.spawn(call_with_a_captured_client())).unwrap();
    smol::block_on(smol::spawn(call_with_a_captured_client()));
    async_std::task::block_on(async_std::task::spawn(call_with_a_captured_client()));
}

#[derive(Clone)]
struct Users {
    names: TryMemo<u64, u64, String, String>,
}

async fn name(State(users): State<Users>, Path(id): Path<u64>) -> Result<String, String> {
    users.names.call(id).await.map_err(Arc::unwrap_or_clone)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_axum() {
    let load = |id| async move {
        tokio::task::yield_now().await;
        if id < 100 { Ok(format!("name {id}")) } else { Err(format!("there is no {id}")) }
    };
    let users = Users { names: AsyncLru::builder().maxsize(100).try_wrap(load) };
    let service = Router::new().route("/users/{id}", get(name)).with_state(users.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/users", listener.local_addr().unwrap());
    let server = tokio::spawn(axum::serve(listener, service).into_future());

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |id: u64| {
        let answer = client.get(format!("{url}/{id}")).send().await.unwrap();
        answer.text().await.unwrap()
    };
    for _ in 0..3 {
        assert_eq!(ask(5).await, "name 5");
    }
    assert_eq!(ask(500).await, "there is no 500");
    let stats = users.names.stats();
    assert_eq!((stats.loads, stats.hits), (2, 2));
    server.abort();
}
