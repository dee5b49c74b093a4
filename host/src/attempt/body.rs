//! The body of a request in the log, beside the event it was made of: most platforms put
//! the event's data into an envelope, and the data is kept already.

use bytes::Bytes;
use memchr::memmem;

/// A body as it went out: what the event's data says is not kept twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SentBody {
    /// The event's data, unchanged.
    Data,
    /// The event's data, without white space around it, after so many of these bytes.
    Around(Box<[u8]>, i32),
    /// These bytes.
    Own(Bytes),
}

/// Data that is shorter is kept again: saying where it goes takes room as well.
const DATA_BYTES_MIN: usize = 32;

/// What begins as the data does is held against it so often.
const STARTS_MAX: usize = 4;

impl SentBody {
    /// A body that was made of that data.
    pub(crate) fn of(body: &Bytes, data: &Bytes) -> Self {
        if body == data {
            return Self::Data;
        }
        let own = || Self::Own(body.clone());
        let data = data.trim_ascii();
        if data.len() < DATA_BYTES_MIN || body.len() < data.len() {
            return own();
        }
        let (start, places) = (&data[..DATA_BYTES_MIN], body.len() - data.len());
        let is_there = |at: &usize| body[*at..*at + data.len()] == *data;
        // Where it is long, reading it is most of the work, so that is not done often.
        let mut starts = memmem::find_iter(&body[..places + start.len()], start).take(STARTS_MAX);
        let around = |at: usize| {
            let rest = [&body[..at], &body[at + data.len()..]].concat();
            Some(Self::Around(rest.into(), at.try_into().ok()?))
        };
        starts.find(is_there).and_then(around).unwrap_or_else(own)
    }

    /// All of it, with the data it was made of.
    pub(crate) fn whole(&self, data: &Bytes) -> Bytes {
        match self {
            Self::Data => data.clone(),
            Self::Own(bytes) => bytes.clone(),
            Self::Around(bytes, at) => {
                let at = usize::try_from(*at).unwrap_or_default().min(bytes.len());
                let (before, after) = bytes.split_at(at);
                [before, data.trim_ascii(), after].concat().into()
            }
        }
    }

    /// As a store keeps it: its bytes, and where among them the data goes.
    pub(crate) fn columns(&self) -> (Option<&[u8]>, Option<i32>) {
        match self {
            Self::Data => (None, None),
            Self::Own(bytes) => (Some(bytes), None),
            Self::Around(bytes, at) => (Some(bytes), Some(*at)),
        }
    }

    /// As a store has kept it.
    pub(crate) fn from_columns(bytes: Option<Vec<u8>>, data_at: Option<i32>) -> Self {
        match (bytes, data_at) {
            (None, _) => Self::Data,
            (Some(bytes), None) => Self::Own(bytes.into()),
            (Some(bytes), Some(at)) => Self::Around(bytes.into(), at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &[u8] = br#"{"id":2279,"name":"Harbour hall","total":12.50}"#;

    #[test]
    fn an_envelope_is_kept_without_the_data_in_it() {
        let data = Bytes::from([b"\n ", DATA, b"\n"].concat());
        let body = Bytes::from([b"{\"data\":", DATA, b",\"v\":1}"].concat());
        let kept = SentBody::of(&body, &data);
        assert_eq!(kept.columns(), (Some(&b"{\"data\":,\"v\":1}"[..]), Some(8)));
        assert_eq!(read_again(&kept).whole(&data), body);
    }

    #[test]
    fn every_body_comes_back_whole() {
        let short = &DATA[..DATA_BYTES_MIN - 1];
        let twice = [DATA, DATA].concat();
        for (data, body) in [
            (DATA, DATA),
            (DATA, b""),
            (b"", b""),
            (b"", DATA),
            (b"  ", b"   "),
            (DATA, b"{}"),
            (DATA, &twice),
            (&twice, DATA),
            (short, &twice),
        ] {
            let (data, body) = (Bytes::copy_from_slice(data), Bytes::copy_from_slice(body));
            let kept = read_again(&SentBody::of(&body, &data));
            assert_eq!(kept.whole(&data), body, "{body:?} of {data:?}");
        }
    }

    #[test]
    fn a_place_beyond_the_bytes_is_their_end() {
        let read = SentBody::from_columns(Some(b"ab".to_vec()), Some(i32::MAX));
        assert_eq!(read.whole(&Bytes::from_static(b"c")), "abc");
    }

    fn read_again(kept: &SentBody) -> SentBody {
        let (bytes, data_at) = kept.columns();
        SentBody::from_columns(bytes.map(<[u8]>::to_vec), data_at)
    }
}
