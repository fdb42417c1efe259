//! The frames of a backup, and how rows are packed in them.
//!
//! ```text
//! "tripline backup\n"            16 bytes
//! frame*                         kind u8 · length u32 · CRC-32 u32 · payload
//!   H  header                    JSON
//!   T  table                     JSON: {"table", "columns"}
//!   R  rows of that table        deflated: count, then the values row by row
//!   F  failure                   JSON: {"message"}: the server gave up here
//!   E  end                       JSON: {"rows", "sha256"} over all bytes before this frame
//! ```
//!
//! Numbers are little-endian. A value is a tag and what follows: 0 null · 1 integer (zigzag
//! varint) · 2 real (8 bytes) · 3 text and 4 bytes (varint length, then that many).

use std::io::{self, Read, Write};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Checked, End, Error, Header};

pub(super) const MAGIC: &[u8; 16] = b"tripline backup\n";
/// Version of this layout.
pub(super) const FORMAT: u32 = 1;
/// Packed rows that make a frame; one row more than that stands alone.
const ROWS_BYTES: usize = 1 << 20;
/// Rows of one frame, unpacked: more than any database takes as one row. A frame may be a thousandth of it.
const UNPACKED_MAX: u64 = 1 << 30;

/// Takes frames, each whole. An error ends the backup, and its text is told.
pub trait Sink {
    fn put(&mut self, frame: &[u8]) -> io::Result<()>;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Failure {
    message: String,
}

/// One column of one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Writes a backup, frame by frame.
pub(super) struct Writer<'a> {
    sink: &'a mut dyn Sink,
    hash: Sha256,
    end: End,
    table: Option<String>,
    packed: Vec<u8>,
    count: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn begin(sink: &'a mut dyn Sink, header: &Header) -> io::Result<Self> {
        let mut writer = Self {
            sink,
            hash: Sha256::new(),
            end: End::default(),
            table: None,
            packed: Vec::with_capacity(ROWS_BYTES + 4_096),
            count: 0,
        };
        writer.hash.update(MAGIC);
        let head = [&MAGIC[..], &frame(b'H', &json(header))].concat();
        writer.hash.update(&head[MAGIC.len()..]);
        writer.sink.put(&head)?;
        Ok(writer)
    }

    fn put(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let frame = frame(kind, payload);
        self.hash.update(&frame);
        self.sink.put(&frame)
    }

    /// The rows that follow are of this table.
    pub(super) fn table(&mut self, table: &str, columns: &[String]) -> io::Result<()> {
        self.flush()?;
        self.table = Some(table.to_owned());
        self.end.rows.insert(table.to_owned(), 0);
        let head = Table { table: table.to_owned(), columns: columns.to_vec() };
        self.put(b'T', &json(&head))
    }

    pub(super) fn null(&mut self) {
        self.packed.push(0);
    }

    pub(super) fn int(&mut self, value: i64) {
        self.packed.push(1);
        put_number(&mut self.packed, ((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    pub(super) fn real(&mut self, value: f64) {
        self.packed.push(2);
        self.packed.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn text(&mut self, value: &[u8]) {
        self.long(3, value);
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.long(4, value);
    }

    fn long(&mut self, tag: u8, value: &[u8]) {
        self.packed.push(tag);
        put_number(&mut self.packed, value.len() as u64);
        self.packed.extend_from_slice(value);
    }

    /// All columns of a row were given.
    pub(super) fn row(&mut self) -> io::Result<()> {
        self.count += 1;
        if self.packed.len() >= ROWS_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(table) = self.table.as_ref().filter(|_| self.count > 0) else { return Ok(()) };
        *self.end.rows.entry(table.clone()).or_default() += self.count;
        let mut count = Vec::new();
        put_number(&mut count, self.count);
        // The fastest level: a busy server has better uses for its cores.
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(&count)?;
        deflate.write_all(&self.packed)?;
        self.packed.clear();
        self.count = 0;
        let payload = deflate.finish()?;
        self.put(b'R', &payload)
    }

    pub(super) fn end(mut self) -> io::Result<End> {
        self.flush()?;
        self.end.sha256 = hex(&self.hash.finalize_reset());
        let frame = frame(b'E', &json(&self.end));
        self.sink.put(&frame)?;
        Ok(self.end)
    }
}

/// The frame that says why a backup ends before its end.
#[must_use]
pub fn failure(message: &str) -> Vec<u8> {
    frame(b'F', &json(&Failure { message: message.to_owned() }))
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 9);
    frame.push(kind);
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data has a JSON form")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a reader meets after the header.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Table(Table),
    Rows(Vec<u8>),
    End(End),
}

/// Reads a backup, frame by frame, and checks each.
pub(super) struct Reader<R> {
    from: R,
    hash: Sha256,
    read: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(from: R) -> Result<(Self, Header), Error> {
        let mut reader = Self { from, hash: Sha256::new(), read: 0 };
        let mut magic = [0; MAGIC.len()];
        reader.fill(&mut magic)?;
        if &magic != MAGIC {
            return Err(Error::Damaged("it does not begin as one".into()));
        }
        reader.hash.update(magic);
        let (kind, head, payload) = reader.frame()?;
        reader.hash.update(head);
        reader.hash.update(&payload);
        if kind != b'H' {
            return Err(reader.damaged("no header"));
        }
        let version: Version = reader.parse(&payload)?;
        if version.format != FORMAT {
            return Err(Error::Newer {
                version: version.version,
                ours: env!("CARGO_PKG_VERSION"),
                what: format!("its format is {}, not {FORMAT}", version.format),
            });
        }
        let header = reader.parse(&payload)?;
        Ok((reader, header))
    }

    /// The next part; after [`Part::End`] there is nothing.
    pub(super) fn next(&mut self) -> Result<Part, Error> {
        let so_far = self.hash.clone();
        let (kind, head, payload) = self.frame()?;
        self.hash.update(head);
        self.hash.update(&payload);
        match kind {
            b'T' => Ok(Part::Table(self.parse(&payload)?)),
            b'R' => {
                let mut rows = Vec::new();
                DeflateDecoder::new(&payload[..])
                    .take(UNPACKED_MAX)
                    .read_to_end(&mut rows)
                    .map_err(|_| self.damaged("rows that cannot be unpacked"))?;
                if rows.len() as u64 == UNPACKED_MAX {
                    return Err(self.damaged("a frame with more rows than fit in one"));
                }
                Ok(Part::Rows(rows))
            }
            b'F' => {
                let failure: Failure = self.parse(&payload)?;
                Err(Error::GivenUp(failure.message))
            }
            b'E' => {
                let end: End = self.parse(&payload)?;
                if end.sha256 != hex(&so_far.finalize()) {
                    return Err(self.damaged("its checksum is another"));
                }
                let mut rest = [0; 1];
                if self.from.read(&mut rest)? != 0 {
                    return Err(self.damaged("more follows its end"));
                }
                Ok(Part::End(end))
            }
            _ => Err(self.damaged("an unknown frame")),
        }
    }

    fn frame(&mut self) -> Result<(u8, [u8; 9], Vec<u8>), Error> {
        let mut head = [0; 9];
        self.fill(&mut head)?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let mut payload = Vec::new();
        // Grows with what is there: a forged length takes no memory.
        let got = (&mut self.from).take(u64::from(length)).read_to_end(&mut payload)?;
        self.read += got as u64;
        if got != length as usize {
            return Err(self.damaged("it is cut off"));
        }
        if crc32fast::hash(&payload) != u32::from_le_bytes([head[5], head[6], head[7], head[8]]) {
            return Err(self.damaged("a frame's checksum is another"));
        }
        Ok((head[0], head, payload))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        match self.from.read_exact(buffer) {
            Ok(()) => {
                self.read += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("it is cut off"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, payload: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(payload).map_err(|error| self.damaged(&error.to_string()))
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged(format!("{what} (at byte {})", self.read))
    }
}

/// What every header has, whatever else changes.
#[derive(Deserialize)]
struct Version {
    format: u32,
    #[serde(default)]
    version: String,
}

/// The header of a backup that may still be growing.
pub fn header(from: impl Read) -> Result<Header, Error> {
    Reader::begin(from).map(|(_, header)| header)
}

/// Reads a whole backup and says what it is; `seen` hears of the bytes read.
pub fn check(from: impl Read, mut seen: impl FnMut(u64)) -> Result<Checked, Error> {
    let (mut reader, header) = Reader::begin(from)?;
    let mut rows = std::collections::BTreeMap::new();
    let mut table = None;
    loop {
        seen(reader.read);
        match reader.next()? {
            Part::Table(next) => {
                rows.insert(next.table.clone(), 0);
                table = Some(next);
            }
            Part::Rows(packed) => {
                let Some(table) = &table else { return Err(reader.damaged("rows of no table")) };
                let count = Unpacker::of(&packed, table.columns.len())?.count()?;
                *rows.entry(table.table.clone()).or_default() += count;
            }
            Part::End(end) if end.rows == rows => {
                return Ok(Checked { header, end, bytes: reader.read });
            }
            Part::End(_) => return Err(reader.damaged("rows are missing")),
        }
    }
}

/// The rows of one frame.
pub(super) struct Unpacker<'a> {
    packed: &'a [u8],
    left: u64,
    columns: usize,
}

impl<'a> Unpacker<'a> {
    pub(super) fn of(packed: &'a [u8], columns: usize) -> Result<Self, Error> {
        let mut unpacker = Self { packed, left: 0, columns };
        unpacker.left = unpacker.number()?;
        // Each value takes a byte: a forged number keeps nobody counting.
        let fit = unpacker.packed.len().checked_div(columns).unwrap_or(0);
        if unpacker.left > fit as u64 { Err(torn()) } else { Ok(unpacker) }
    }

    /// The next row, in the order of the columns.
    pub(super) fn row(&mut self) -> Result<Option<Vec<Value>>, Error> {
        if self.left == 0 {
            return if self.packed.is_empty() { Ok(None) } else { Err(torn()) };
        }
        self.left -= 1;
        (0..self.columns).map(|_| self.value()).collect::<Result<_, _>>().map(Some)
    }

    fn count(mut self) -> Result<u64, Error> {
        let mut count = 0;
        while self.row()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn value(&mut self) -> Result<Value, Error> {
        Ok(match self.take(1)?[0] {
            0 => Value::Null,
            1 => {
                let number = self.number()?;
                Value::Int((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
            }
            2 => Value::Real(f64::from_le_bytes(self.take(8)?.try_into().map_err(|_| torn())?)),
            3 => {
                let text = self.long()?.to_vec();
                Value::Text(String::from_utf8(text).map_err(|_| torn())?)
            }
            4 => Value::Bytes(self.long()?.to_vec()),
            _ => return Err(torn()),
        })
    }

    fn long(&mut self) -> Result<&'a [u8], Error> {
        let length = usize::try_from(self.number()?).map_err(|_| torn())?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.packed.split_at_checked(length).ok_or_else(torn)?;
        self.packed = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(torn())
    }
}

fn torn() -> Error {
    Error::Damaged("a row cannot be unpacked".into())
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(any(test, fuzzing))]
mod made {
    use super::*;
    use crate::{domain::Millis, store::backup::Marker};

    impl Sink for Vec<u8> {
        fn put(&mut self, frame: &[u8]) -> io::Result<()> {
            self.extend_from_slice(frame);
            Ok(())
        }
    }

    pub(super) fn header() -> Header {
        Header {
            format: FORMAT,
            version: "9.9.9".into(),
            store: uuid::Uuid::nil(),
            database: "sqlite".into(),
            created_at: Millis(0),
            schema: vec!["one".into()],
            marker: Marker { seq: 3, batch: 2, watermark: 1 },
            rows: 2,
            secrets: 0,
        }
    }

    /// A backup that was made by hand: a table of `columns`, one frame of what `packed` says are rows, and the
    /// end that fits, with every checksum right. It is read to its end or refused, and nothing is read that is
    /// not there.
    pub(crate) fn fuzz(columns: u8, packed: &[u8]) {
        let names: Vec<String> = (0..columns).map(|column| column.to_string()).collect();
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, &header()).expect("a header");
        writer.table("things", &names).expect("a table");
        writer.end.rows.insert("things".into(), rows(columns.into(), packed).unwrap_or(1));
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(packed).expect("memory");
        writer.put(b'R', &deflate.finish().expect("memory")).expect("a frame");
        writer.end().expect("an end");
        match (check(&file[..], |_| {}), rows(columns.into(), packed)) {
            (Ok(checked), Some(count)) => assert_eq!(checked.end.rows["things"], count),
            (Err(Error::Damaged(_)), None) => {}
            (checked, rows) => panic!("{checked:?} of {rows:?} rows"),
        }
    }

    /// How many rows are in it, if it is rows and nothing else.
    fn rows(columns: usize, packed: &[u8]) -> Option<u64> {
        let mut rows = Unpacker::of(packed, columns).ok()?;
        let mut count = 0;
        while let Some(row) = rows.row().ok()? {
            assert!(row.len() == columns && count <= packed.len() as u64);
            count += 1;
        }
        Some(count)
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) use made::fuzz;

#[cfg(test)]
mod tests {
    use super::{made::header, *};

    fn backup() -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, &header()).unwrap();
        writer.table("things", &["a".into(), "b".into()]).unwrap();
        for n in [i64::MIN, -1, 0, i64::MAX] {
            writer.int(n);
            writer.text("Grüße".as_bytes());
            writer.row().unwrap();
        }
        writer.null();
        writer.bytes(&[0, 255]);
        writer.row().unwrap();
        writer.table("empty", &["a".into()]).unwrap();
        writer.end().unwrap();
        file
    }

    #[test]
    fn what_is_written_comes_back() {
        let file = backup();
        let (mut reader, head) = Reader::begin(&file[..]).unwrap();
        assert_eq!(head, header());
        let Part::Table(table) = reader.next().unwrap() else { panic!("no table") };
        let Part::Rows(packed) = reader.next().unwrap() else { panic!("no rows") };
        let mut rows = Unpacker::of(&packed, table.columns.len()).unwrap();
        let first = rows.row().unwrap().unwrap();
        assert_eq!(first, [Value::Int(i64::MIN), Value::Text("Grüße".into())]);
        for _ in 0..3 {
            rows.row().unwrap().unwrap();
        }
        assert_eq!(rows.row().unwrap().unwrap(), [Value::Null, Value::Bytes(vec![0, 255])]);
        assert_eq!(rows.row().unwrap(), None);
        let checked = check(&file[..], |_| {}).unwrap();
        assert_eq!((checked.end.rows["things"], checked.end.rows["empty"]), (5, 0));
        assert_eq!(checked.bytes, file.len() as u64);
    }

    #[test]
    fn whatever_is_cut_or_changed_is_refused() {
        let file = backup();
        for at in 0..file.len() {
            assert!(check(&file[..at], |_| {}).is_err(), "cut at {at}");
            let mut changed = file.clone();
            changed[at] ^= 4;
            assert!(check(&changed[..], |_| {}).is_err(), "byte {at}");
        }
        let mut longer = file;
        longer.push(0);
        assert!(check(&longer[..], |_| {}).is_err());
    }

    /// A frame of a few bytes may claim any number of rows, and unpack to any length.
    #[test]
    fn forged_rows_are_refused_at_once() {
        let forged = |columns: u8, count: u64| {
            let mut packed = Vec::new();
            put_number(&mut packed, count);
            packed.push(0);
            fuzz(columns, &packed);
        };
        forged(0, u64::MAX);
        forged(1, u64::MAX);
        forged(1, 1);
        fuzz(255, &[0]);

        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, &header()).unwrap();
        writer.table("things", &["a".into()]).unwrap();
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        io::copy(&mut io::repeat(0).take(UNPACKED_MAX + 1), &mut deflate).unwrap();
        writer.put(b'R', &deflate.finish().unwrap()).unwrap();
        writer.end().unwrap();
        assert!(file.len() < 8 << 20, "{}", file.len());
        let error = check(&file[..], |_| {}).unwrap_err().to_string();
        assert!(error.contains("more rows than fit in one"), "{error}");
    }

    #[test]
    fn a_server_that_gave_up_says_why() {
        let mut file = Vec::new();
        Writer::begin(&mut file, &header()).unwrap();
        file.extend(failure("the disk is full"));
        let error = check(&file[..], |_| {}).unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }
}
