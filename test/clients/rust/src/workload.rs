//! The common workload (see workload.py), and how a client reports.

pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
pub const RECORDS: i64 = 120;
pub const BIG_SIZES: [usize; 7] = [1, 1000000, 5242880, 5242880, 5242880, 5242880, 5242880];
pub const BIG_CODECS: [usize; 7] = [0, 0, 0, 1, 2, 3, 4];
const SIZES: [usize; 7] = [1, 2, 10, 100, 1000, 20000, 300000];

#[derive(PartialEq)]
pub struct Record {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
}

fn contents(i: i64, size: usize) -> Vec<u8> {
    (0..size as i64)
        .map(|j| (7 * i + 13 * j + (j >> 8)) as u8)
        .collect()
}

pub fn timestamp(i: i64) -> i64 {
    1700000000000 + 1000 * i
}

fn headers(i: i64) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = vec![
        ("h0".to_string(), Some(format!("v{i}").into_bytes())),
        ("h0".to_string(), Some(vec![])),
        ("h2".to_string(), Some(vec![0, 255, i as u8])),
    ];
    all.truncate((i % 4) as usize);
    all
}

pub fn record(i: i64) -> Record {
    Record {
        offset: i,
        key: match i % 5 {
            0 => None,
            1 => Some(vec![]),
            _ => Some(format!("key-{i}").into_bytes()),
        },
        value: match i % 11 == 7 && i % 5 != 0 {
            true => None,
            false => Some(contents(i, SIZES[(i % 7) as usize])),
        },
        headers: headers(i),
        timestamp: Some(timestamp(i)),
    }
}

pub fn big_record(i: i64) -> Record {
    Record {
        offset: i,
        key: Some(format!("big-{i}").into_bytes()),
        value: Some(contents(i, BIG_SIZES[i as usize])),
        headers: headers(i),
        timestamp: Some(timestamp(i)),
    }
}

pub fn wanted(first: i64) -> Vec<Record> {
    (first..RECORDS).map(record).collect()
}

pub fn wanted_big() -> Vec<Record> {
    (0..BIG_SIZES.len() as i64).map(big_record).collect()
}

#[derive(Default)]
pub struct Report {
    pub failed: bool,
}

impl Report {
    pub fn ok(&mut self, good: bool, what: &str) {
        self.failed |= !good;
        println!("{} - {what}", if good { "ok" } else { "not ok" });
    }

    pub fn same<T: PartialEq + std::fmt::Debug>(&mut self, got: T, wanted: T, what: &str) {
        self.ok(got == wanted, what);
        if got != wanted {
            println!("# got {got:?}\n# not {wanted:?}");
        }
    }

    pub fn same_records(&mut self, got: &[Record], wanted: &[Record], what: &str) {
        self.ok(got == wanted, what);
        if got.len() != wanted.len() {
            println!("# {} records, not {}", got.len(), wanted.len());
        }
        if let Some((_, w)) = got.iter().zip(wanted).find(|(g, w)| g != w) {
            println!("# offset {} differs", w.offset);
        }
    }
}
