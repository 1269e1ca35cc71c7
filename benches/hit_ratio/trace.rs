//! Traces: the keys that are asked for, one request after the other.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::Hash;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::common::arguments::root;
use crate::synthetic;

#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    /// Keys, numbered from zero in the order of their first appearance.
    pub(crate) requests: Vec<u32>,
    /// The number of distinct keys.
    pub(crate) footprint: u32,
}

/// Where a trace comes from. Means are taken of the traces of one origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Origin {
    /// Read from a file.
    Recorded,
    /// Made here.
    Synthetic,
    /// Made here, of a tenth of the requests and keys; for one size in entries.
    Small,
}

impl Origin {
    pub(crate) const ALL: [Self; 3] = [Self::Recorded, Self::Synthetic, Self::Small];
}

impl Trace {
    /// Makes the synthetic trace of that name or, if there is none, reads the file at that path.
    ///
    /// A file whose name ends in `.txt` has a key in each line, which may be any string; one that ends
    /// in `.bin`, or has no such ending, has little-endian `u32`s without anything between them. Either
    /// may be compressed, with `.gz` at the end of its name.
    pub(crate) fn load(argument: &str) -> Result<Self, String> {
        if let Some(keys) = synthetic::generate(argument) {
            let is_small = argument.starts_with(synthetic::SMALL);
            let origin = if is_small { Origin::Small } else { Origin::Synthetic };
            return Ok(Self::new(argument, origin, keys));
        }
        let path = root().join(argument);
        if !path.is_file() {
            return Err(format!(
                "{argument} is neither a file nor a synthetic trace such as {}",
                synthetic::NAMES.join(", ")
            ));
        }
        Self::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let mut file = BufReader::new(File::open(path)?);
        let mut inner = path.to_owned();
        if inner.extension() == Some(OsStr::new("gz")) {
            inner.set_extension("");
            MultiGzDecoder::new(file).read_to_end(&mut bytes)?;
        } else {
            file.read_to_end(&mut bytes)?;
        }
        let name = inner.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match inner.extension().and_then(OsStr::to_str) {
            Some("txt") => {
                let keys = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
                Ok(Self::new(&name, Origin::Recorded, keys.filter(|key| !key.is_empty())))
            }
            None | Some("bin") => {
                let (keys, rest) = bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(io::Error::other("its length is no multiple of 4 bytes"));
                }
                let keys = keys.iter().map(|&key| u32::from_le_bytes(key));
                Ok(Self::new(&name, Origin::Recorded, keys))
            }
            Some(_) => Err(io::Error::other("its name must end in .txt or .bin, or in neither")),
        }
    }

    fn new<K: Hash + Eq>(name: &str, origin: Origin, keys: impl IntoIterator<Item = K>) -> Self {
        let mut numbers = HashMap::new();
        let number = |key| {
            let next = numbers.len() as u32;
            *numbers.entry(key).or_insert(next)
        };
        let requests: Vec<_> = keys.into_iter().map(number).collect();
        let footprint = numbers.len() as u32;
        Self { name: name.to_owned(), origin, requests, footprint }
    }
}
