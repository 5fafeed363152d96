//! Files that arrive in pieces (`Content-Range: <first>-<last>/<total>`).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::reply::{Answer, Refusal};

/// The largest piece, as on the real device.
const LARGEST_CHUNK: usize = 1024 * 1024;
/// The largest file, and how many there may be, so that nobody fills the memory.
const LARGEST_FILE: usize = 16 * 1024 * 1024;
const MOST_FILES: usize = 256;

/// Where the device keeps them.
pub(crate) const FOLDER: &str = "/var/config/rest/downloads/";

#[derive(Default)]
pub(crate) struct Uploads {
    files: BTreeMap<String, File>,
}

struct File {
    total: usize,
    /// Wiped, for it may be a key.
    bytes: Zeroizing<Vec<u8>>,
}

impl Uploads {
    /// Takes a piece, which must follow the one before without gap or overlap; one that starts at 0 begins anew.
    pub(crate) fn take(&mut self, name: &str, range: Option<&str>, bytes: &[u8]) -> Answer {
        if name.is_empty() || name.contains(['/', '\\']) || name.contains("..") {
            return Err(Refusal::bad("the name of the file is invalid"));
        }
        let (first, last, total) = range
            .and_then(read_range)
            .ok_or_else(|| Refusal::bad("Content-Range is missing or invalid"))?;
        if bytes.len() > LARGEST_CHUNK || total > LARGEST_FILE {
            return Err(Refusal::bad("the chunk or the file is too large"));
        }
        if last < first || last >= total || last - first + 1 != bytes.len() {
            return Err(Refusal::bad("Content-Range does not fit the content"));
        }
        if first == 0 {
            if self.files.len() >= MOST_FILES && !self.files.contains_key(name) {
                return Err(Refusal::bad("there is no room for another file"));
            }
            let bytes = Zeroizing::new(Vec::with_capacity(total));
            self.files.insert(name.to_owned(), File { total, bytes });
        }
        let file = self
            .files
            .get_mut(name)
            .filter(|file| file.total == total && file.bytes.len() == first)
            .ok_or_else(|| Refusal::bad("Content-Range leaves a gap or overlaps"))?;
        file.bytes.extend_from_slice(bytes);
        let remaining = total - file.bytes.len();
        Ok(json!({
            "remainingByteCount": remaining,
            "totalByteCount": total,
            "localFilePath": format!("{FOLDER}{name}"),
            "usedChunks": {},
        }))
    }

    /// The text of a file that has arrived whole, by the path on the device.
    pub(crate) fn text(&self, path: &str) -> Result<&str, Refusal> {
        let file = path
            .strip_prefix(FOLDER)
            .and_then(|name| self.files.get(name))
            .filter(|file| file.bytes.len() == file.total)
            .ok_or_else(|| Refusal::not_found(format!("the file {path} is not there")))?;
        std::str::from_utf8(&file.bytes).map_err(|_| Refusal::bad("the file is no PEM"))
    }

    /// Removes a file; whether it was there.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        path.strip_prefix(FOLDER)
            .is_some_and(|name| self.files.remove(name).is_some())
    }

    pub(crate) fn names(&self) -> Value {
        self.files.keys().cloned().collect()
    }
}

fn read_range(text: &str) -> Option<(usize, usize, usize)> {
    let (range, total) = text.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::Uploads;

    #[test]
    fn pieces_follow_each_other() {
        let mut uploads = Uploads::default();
        let path = "/var/config/rest/downloads/a";
        assert_eq!(
            uploads.take("a", Some("0-1/5"), b"ab").unwrap()["remainingByteCount"],
            3
        );
        assert!(uploads.text(path).is_err(), "it is not whole");
        for (range, bytes) in [
            (Some("3-4/5"), &b"de"[..]), // a gap
            (Some("1-2/5"), b"bc"),      // an overlap
            (Some("2-4/6"), b"cde"),     // another total
            (Some("2-4/5"), b"cd"),      // too few bytes
            (Some("2-5/5"), b"cdef"),    // beyond the end
            (Some("4-2/5"), b""),
            (Some("nonsense"), b"cde"),
            (None, b"cde"),
        ] {
            assert!(uploads.take("a", range, bytes).is_err(), "{range:?}");
        }
        assert_eq!(
            uploads.take("a", Some("2-4/5"), b"cde").unwrap()["remainingByteCount"],
            0
        );
        assert_eq!(uploads.text(path).unwrap(), "abcde");
        uploads.take("a", Some("0-0/1"), b"x").unwrap();
        assert_eq!(uploads.text(path).unwrap(), "x");
        assert!(uploads.remove(path) && !uploads.remove(path));
        assert!(uploads.take("../a", Some("0-0/1"), b"x").is_err());
    }
}
