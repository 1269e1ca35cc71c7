//! What `DeepSize` reports, against what an allocator counts.

#[path = "common/counting.rs"]
mod counting;

use async_lru::{DeepSize, impl_deep_size};
use counting::live;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CString, OsString};
use std::marker::PhantomData;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

/// Builds a value, and counts the bytes that are live because of it.
fn counted<T>(build: impl FnOnce() -> T) -> (T, usize) {
    let before = live();
    let value = build();
    (value, live().wrapping_sub(before))
}

#[track_caller]
fn exact<T: DeepSize>(build: impl FnOnce() -> T) {
    let (value, live) = counted(build);
    assert!(live > 0, "the test measures nothing");
    assert_eq!(value.heap_size(), live);
}

/// Asserts `low <= reported / counted <= high`.
#[track_caller]
fn within<T: DeepSize>(low: f64, high: f64, build: impl FnOnce() -> T) {
    let (value, live) = counted(build);
    let ratio = value.heap_size() as f64 / live as f64;
    assert!(
        (low..=high).contains(&ratio),
        "{} reported, {live} counted: {ratio:.3}",
        value.heap_size()
    );
}

#[track_caller]
fn owns_nothing<T: DeepSize>(build: impl FnOnce() -> T) {
    let (value, live) = counted(build);
    assert_eq!((value.heap_size(), live), (0, 0));
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

/// The same scrambled numbers in each run, no two alike.
fn scrambled() -> impl Iterator<Item = u64> {
    (1..).map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

#[derive(PartialEq, Eq, Hash, Clone)]
#[repr(align(64))]
struct CacheLine(u8);
impl_deep_size!(CacheLine {});

#[test]
fn the_allocator_counts_what_is_live() {
    let (kept, live) = counted(|| {
        drop(vec![0_u8; 1000]);
        let mut kept = vec![0_u8; 10];
        kept.reserve_exact(90);
        kept
    });
    assert_eq!((kept.len(), live), (10, 100));
}

#[test]
fn deep_size_is_own_size_plus_heap_size() {
    fn check<T: DeepSize + ?Sized>(value: &T) {
        assert_eq!(value.deep_size(), size_of_val(value) + value.heap_size());
    }
    check(&7_u8);
    check(&text(9));
    check(&vec![text(1), text(2)]);
    check("unsized");
    check(&[text(3), text(4)][..]);
    check(Path::new("/tmp"));
    assert_eq!("unsized".deep_size(), 7);
    assert_eq!([text(3), text(4)][..].deep_size(), 2 * size_of::<String>() + 7);
}

#[test]
fn plain_values_own_nothing() {
    owns_nothing(|| (1_u8, 2_i128, 3.0_f64, 'x', true, ()));
    owns_nothing(|| (NonZero::<u32>::MIN, AtomicU64::new(1), Cell::new(1)));
    owns_nothing(|| (Duration::MAX, Instant::now(), SystemTime::now()));
    owns_nothing(|| "127.0.0.1:80".parse::<std::net::SocketAddr>().unwrap());
    owns_nothing(|| (PhantomData::<String>, "borrowed", 1..2_u8, Some(1_u8)));
    owns_nothing(|| [1_u64; 100]);
}

#[test]
fn empty_containers_own_nothing() {
    owns_nothing(|| (String::new(), PathBuf::new(), OsString::new()));
    owns_nothing(|| (Vec::<String>::new(), VecDeque::<String>::new()));
    owns_nothing(HashMap::<String, String>::new);
    owns_nothing(HashSet::<String>::new);
    owns_nothing(|| (BTreeMap::<u8, u8>::new(), BTreeSet::<u8>::new()));
    owns_nothing(|| (BinaryHeap::<u8>::new(), LinkedList::<u8>::new()));
}

#[test]
fn zero_sized_elements_need_no_buffer() {
    owns_nothing(|| vec![(); 1000]);
    owns_nothing(|| VecDeque::from(vec![(); 1000]));
    owns_nothing(|| vec![(); 1000].into_boxed_slice());
}

#[test]
fn text_counts_its_capacity() {
    exact(|| text(5));
    exact(|| {
        let mut text = String::with_capacity(100);
        text.push('x');
        text
    });
    exact(|| PathBuf::from("/a/b").join("c"));
    exact(|| OsString::from("name"));
}

#[test]
fn a_c_string_counts_its_final_zero() {
    exact(|| CString::new("four").unwrap());
    assert_eq!(CString::new("four").unwrap().heap_size(), 5);
}

#[test]
fn a_vec_counts_spare_capacity() {
    exact(|| {
        let mut numbers = Vec::with_capacity(100);
        numbers.push(1_u64);
        numbers
    });
}

#[test]
fn a_vec_that_grew_counts_what_it_grew_to() {
    exact(|| {
        let mut texts = Vec::new();
        for n in 0..1000 {
            texts.push(text(n % 50));
        }
        texts
    });
}

#[test]
fn nested_vecs_count_on_every_level() {
    exact(|| vec![vec![vec![1_u16; 3]; 4], Vec::with_capacity(7)]);
}

#[test]
fn boxes_count_what_they_point_to() {
    exact(|| Box::new(7_u64));
    exact(|| Box::new(text(10)));
    exact(|| text(10).into_boxed_str());
    exact(|| vec![text(1), text(2)].into_boxed_slice());
    exact(|| Box::new(CacheLine(1)));
    exact(|| PathBuf::from("/a/b").into_boxed_path());
}

#[test]
fn a_box_of_a_trait_object_counts_the_value_behind_it() {
    exact(|| Box::new(text(10)) as Box<dyn DeepSize>);
}

#[test]
fn a_recursive_type_counts_to_its_end() {
    struct Chain(String, Option<Box<Chain>>);
    impl_deep_size!(Chain { 0, 1 });
    let chain = |length, rest| Chain(text(length), rest);
    exact(|| chain(1, Some(Box::new(chain(2, Some(Box::new(chain(3, None))))))));
}

#[test]
fn arcs_and_rcs_count_counters_and_padding() {
    exact(|| Arc::new(7_u8));
    exact(|| Arc::new(text(10)));
    exact(|| Arc::<str>::from("eleven byte"));
    exact(|| Arc::<[u16]>::from([1, 2, 3]));
    exact(|| Arc::new(CacheLine(1)));
    exact(|| Arc::new(text(10)) as Arc<dyn DeepSize>);
    exact(|| Rc::new(vec![text(1), text(2)]));
    exact(|| Rc::<str>::from(""));
    exact(|| Rc::new(CacheLine(1)));
}

#[test]
fn a_shared_arc_counts_once_per_holder() {
    let (holders, live) = counted(|| {
        let shared: Arc<str> = text(1000).into();
        [shared.clone(), shared]
    });
    assert_eq!(holders.heap_size(), 2 * live);
}

#[test]
fn weak_pointers_and_borrows_own_nothing() {
    let (arc, rc, value) = (Arc::new(text(10)), Rc::new(text(10)), text(10));
    owns_nothing(|| (Arc::downgrade(&arc), Rc::downgrade(&rc)));
    owns_nothing(|| (&value, value.as_str(), Cow::Borrowed(value.as_str())));
}

#[test]
fn an_owned_cow_counts_what_it_owns() {
    exact(|| Cow::<str>::Owned(text(10)));
    exact(|| Cow::<[String]>::Owned(vec![text(10)]));
}

#[test]
fn options_and_results_count_the_side_they_hold() {
    exact(|| [Some(Box::new(text(3))), None, Some(Box::new(text(5)))]);
    exact(|| [Ok(text(3)), Err(vec![1_u32, 2])]);
}

#[test]
fn tuples_and_ranges_count_each_part() {
    exact(|| (text(1), 2, Box::new(3_u64)));
    exact(|| {
        let t = text;
        (t(1), t(2), t(3), t(4), t(5), t(6), t(7), t(8), t(9), t(10), t(11), t(12))
    });
    exact(|| (text(1)..text(2), text(3)..=text(4), text(5).., ..text(6)));
}

#[test]
fn a_deque_counts_elements_on_both_sides_of_the_wrap() {
    let build = || {
        let mut deque = VecDeque::with_capacity(8);
        deque.extend((0..8).map(text));
        for n in 8..13 {
            deque.pop_front();
            deque.push_back(text(n));
        }
        deque
    };
    assert!(!build().as_slices().1.is_empty(), "the deque does not wrap");
    exact(build);
}

#[test]
fn heaps_and_lists_count_elements_and_links() {
    exact(|| (0..20).map(text).collect::<BinaryHeap<_>>());
    exact(|| (0..20).map(text).collect::<LinkedList<_>>());
    exact(|| LinkedList::from([1_u8, 2, 3]));
}

#[test]
fn a_hash_map_counts_table_keys_and_values() {
    exact(|| (0..1000).map(|n| (n.to_string(), vec![0_u8; n % 30])).collect::<HashMap<_, _>>());
}

#[test]
fn a_hash_map_of_maps_counts_on_every_level() {
    exact(|| {
        (0..50)
            .map(|n| (n, (0..n).map(|m| (m, text(m))).collect()))
            .collect::<HashMap<usize, HashMap<usize, String>>>()
    });
}

/// The layout of the table depends on the element's size and alignment and on the capacity, so
/// this tries many of each.
#[test]
fn hash_tables_of_every_shape_count_exactly() {
    fn check<V: Clone + DeepSize>(value: V) {
        for capacity in 1..300 {
            exact(|| HashMap::<u16, V>::with_capacity(capacity));
            exact(|| {
                let mut map = HashMap::new();
                map.extend((0..capacity as u16).map(|key| (key, value.clone())));
                map
            });
        }
    }
    check(());
    check(1_u8);
    check([1_u8; 3]);
    check(1_u128);
    check([1_u32; 25]);
    check(CacheLine(1));
}

#[test]
fn hash_sets_of_tiny_elements_count_exactly() {
    exact(|| HashSet::from([()]));
    for last in 0..=u8::MAX {
        exact(|| (0..=last).collect::<HashSet<_>>());
    }
}

#[test]
fn a_hash_map_that_lost_less_than_half_still_counts_its_whole_table() {
    for full in [3, 7, 14, 28, 448, 7168] {
        for removed in [1, full / 4, (full - 1) / 2] {
            exact(|| {
                let mut map: HashMap<_, _> = (0..full).map(|n| (n, text(n % 50))).collect();
                map.retain(|n, _| *n >= removed);
                map
            });
        }
    }
}

#[test]
fn a_cleared_hash_map_still_counts_its_whole_table() {
    exact(|| {
        let mut map: HashMap<_, _> = (0..448).map(|n| (n, text(n))).collect();
        map.clear();
        map
    });
}

#[test]
fn the_hasher_makes_no_difference() {
    type Fixed = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;
    exact(|| {
        let mut map = HashMap::<_, _, Fixed>::default();
        map.extend((0..100).map(|n| (n, text(n))));
        map
    });
}

#[test]
fn a_tree_of_one_node_counts_exactly() {
    for len in 1..=11 {
        exact(|| (0..len).map(|n| (n, text(n))).collect::<BTreeMap<_, _>>());
        exact(|| (0..len as u8).collect::<BTreeSet<_>>());
        exact(|| {
            let mut map = BTreeMap::new();
            map.extend((0..len).rev().map(|n| (n as u16, CacheLine(1))));
            map
        });
    }
}

#[test]
fn a_large_tree_in_scrambled_order_counts_within_five_percent() {
    within(0.95, 1.05, || {
        let mut map = BTreeMap::new();
        map.extend(scrambled().take(10_000).map(|key| (key, key)));
        map
    });
}

#[test]
fn a_tree_of_large_values_counts_within_five_percent() {
    for len in [1, 12, 50, 1000] {
        within(0.95, 1.05, || {
            let pages = (0..len).map(|n| (n, text(1000)));
            pages.collect::<BTreeMap<_, _>>()
        });
    }
}

#[test]
fn a_tree_of_any_history_counts_within_the_documented_range() {
    fn check<V: DeepSize>(value: impl Fn() -> V) {
        let pair = |key: u64| (key, value());
        for len in (12..200).chain([1000, 5000]) {
            within(0.6, 1.7, || (0..len).map(pair).collect::<BTreeMap<_, _>>());
            within(0.6, 1.7, || {
                let mut map = BTreeMap::new();
                for key in 0..len {
                    map.insert(key, value());
                }
                map
            });
            within(0.6, 1.7, || {
                let mut map = BTreeMap::new();
                for key in scrambled().take(len as usize) {
                    map.insert(key, value());
                }
                map
            });
            within(0.6, 1.7, || {
                let mut map = (0..8 * len).map(pair).collect::<BTreeMap<_, _>>();
                for key in scrambled().map(|n| n % (8 * len)) {
                    if map.len() == len as usize {
                        break;
                    }
                    map.remove(&key);
                }
                map
            });
        }
    }
    check(|| ());
    check(|| 1_u64);
    check(|| [1_u64; 20]);
}

struct User {
    id: u64,
    name: String,
    tags: Vec<String>,
    avatar: Option<Box<[u8]>>,
}
impl_deep_size!(User { name, tags, avatar });

fn user(id: u64) -> User {
    User { id, name: text(20), tags: vec![text(3), text(4)], avatar: Some(vec![0; 500].into()) }
}

#[test]
fn the_macro_sums_the_named_fields() {
    exact(|| user(1));
    assert_eq!(user(1).deep_size(), size_of::<User>() + user(1).heap_size());
    assert_eq!(user(7).id, 7);
}

#[test]
fn structs_inside_collections_count_their_fields() {
    exact(|| (0..40).map(user).collect::<Vec<_>>());
    exact(|| (0..40).map(|id| (id, Arc::new(user(id)))).collect::<HashMap<_, _>>());
}

#[test]
fn the_macro_takes_tuple_structs_unit_structs_and_a_trailing_comma() {
    struct Pair(Box<u32>, String);
    struct Unit;
    struct Page<T> {
        rows: Vec<T>,
    }
    impl_deep_size!(Pair { 0, 1, });
    impl_deep_size!(Unit {});
    impl_deep_size!(Page<String> { rows });
    exact(|| Pair(Box::new(1), text(2)));
    exact(|| Page { rows: vec![text(3)] });
    assert_eq!(Unit.deep_size(), 0);
}

#[test]
fn a_field_left_out_counts_its_own_size_only() {
    struct Session {
        token: String,
        config: Arc<String>,
    }
    impl_deep_size!(Session { token });
    let session = Session { token: text(16), config: Arc::new(text(1000)) };
    assert_eq!(session.deep_size(), size_of::<Session>() + 16);
    assert_eq!(session.config.len(), 1000);
}

#[test]
fn sums_saturate() {
    struct Huge(Option<Box<u8>>);
    impl DeepSize for Huge {
        fn heap_size(&self) -> usize {
            usize::MAX - self.0.heap_size()
        }
    }
    let huge = || Huge(None);
    assert_eq!(huge().deep_size(), usize::MAX);
    assert_eq!(vec![huge(), huge()].heap_size(), usize::MAX);
    assert_eq!((huge(), huge()).heap_size(), usize::MAX);
    assert_eq!(Arc::new(huge()).heap_size(), usize::MAX);
    assert_eq!(HashMap::from([(1, huge())]).heap_size(), usize::MAX);
    assert_eq!(BTreeMap::from([(1, huge())]).heap_size(), usize::MAX);
}

#[cfg(feature = "bytes")]
mod bytes {
    use super::{counted, exact, within};
    use async_lru::DeepSize;
    use bytes::{Bytes, BytesMut};

    #[test]
    fn bytes_of_their_own_count_exactly() {
        exact(|| Bytes::from(vec![0_u8; 1000]));
        exact(|| Bytes::copy_from_slice(b"hello"));
        exact(|| BytesMut::with_capacity(1000));
        exact(|| BytesMut::from("hello"));
    }

    #[test]
    fn shared_bytes_count_what_each_holder_sees() {
        let (holders, live) = counted(|| {
            let whole = Bytes::from(vec![0_u8; 4096]);
            [whole.slice(..1000), whole]
        });
        assert!(live < 4096 + 100, "the buffer is not shared");
        assert_eq!(holders.heap_size(), 4096 + 1000);
    }

    #[test]
    fn the_halves_of_a_split_count_their_own_part() {
        within(0.95, 1.0, || {
            let mut first = BytesMut::with_capacity(4096);
            first.resize(1000, 0);
            let second = first.split_off(1000);
            (first, second)
        });
    }
}

#[cfg(feature = "serde_json")]
mod json {
    use super::{exact, owns_nothing, text, within};
    use serde_json::{Map, Value, json};

    const ORDER: &str = r#"{
        "id": 42, "total": 19.5, "paid": true, "note": null,
        "customer": {"name": "Ann Example", "address": {"city": "Bern", "zip": "3000"}},
        "lines": [{"sku": "a-1", "count": 2}, {"sku": "b-2", "count": 1}, {}, []]
    }"#;

    #[test]
    fn json_scalars_own_nothing_but_text() {
        owns_nothing(|| [Value::Null, Value::Bool(true), json!({}), json!([])]);
        exact(|| Value::from(text(10)));
    }

    #[test]
    fn a_parsed_json_document_counts_exactly() {
        exact(|| serde_json::from_str::<Value>(ORDER).unwrap());
        exact(|| vec![serde_json::from_str::<Map<String, Value>>(ORDER).unwrap()]);
    }

    #[test]
    fn a_built_json_document_counts_exactly() {
        exact(|| json!({"name": text(10), "list": [1, [2, "three"]], "more": {"x": 1.5}}));
    }

    #[test]
    fn a_large_json_object_counts_within_the_documented_range() {
        for len in [12, 100, 1000] {
            within(0.6, 1.7, || {
                (0..len).map(|n| (n.to_string(), json!(text(n)))).collect::<Map<_, _>>()
            });
        }
    }
}
