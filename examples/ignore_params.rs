//! Arguments that are passed to the function but are no part of the key.

use async_lru::AsyncLru;

/// One question to the permission service. Who asks for what decides the
/// answer; the rest is for its log.
struct Request {
    user: String,
    resource: String,
    request_id: u32,
    /// Seconds since 1970.
    timestamp: u64,
}

async fn load_permissions(request: Request) -> Vec<&'static str> {
    println!("  function called for request {} of {}", request.request_id, request.timestamp);
    match request.user.as_str() {
        "admin" => vec!["read", "write"],
        _ => vec!["read"],
    }
}

#[tokio::main]
async fn main() {
    let permissions = AsyncLru::builder()
        .maxsize(100)
        .key_extractor(|request: &Request| (request.user.clone(), request.resource.clone()))
        .wrap(load_permissions);

    for request_id in 1..=3 {
        let granted = permissions
            .call(Request {
                user: "admin".to_owned(),
                resource: "document".to_owned(),
                request_id,
                timestamp: 1_700_000_000 + u64::from(request_id),
            })
            .await;
        println!("request {request_id}: admin may {}", granted.join(" and "));
        assert_eq!(granted, ["read", "write"]);
    }

    let stats = permissions.stats();
    println!("calls: 3, from the cache: {}, function calls: {}", stats.hits, stats.loads);
    assert_eq!((stats.hits, stats.misses, stats.loads), (2, 1, 1));
}
