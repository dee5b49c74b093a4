//! A scheme as rules that the host follows.

use plugpost_plugin::rules::{
    Algorithm, Notation, Piece as Signed, Rule, Signing, Stretch, TimeUnit,
};

use crate::KEY;
use crate::settings::{Encoding, Layout, Scheme, Timestamp, Unit};
use crate::template::Piece;

/// As many as the host takes.
const PIECES_MAX: usize = 16;

/// The rules of a scheme; none where they cannot say what is signed.
pub(crate) fn of(scheme: &Scheme) -> Option<Vec<Rule>> {
    let algorithm = match scheme.algorithm.as_str() {
        "sha1" => Algorithm::Sha1,
        "sha512" => Algorithm::Sha512,
        _ => Algorithm::Sha256,
    };
    let notation = match scheme.encoding {
        Encoding::Hex => Notation::Hex,
        Encoding::Base64 => Notation::Base64,
    };
    let stamp = scheme.timestamp.as_ref();
    let time = || Stretch::Time(unit_of(stamp));
    let pieces = scheme.signed.pieces().iter().map(|piece| signed(piece, unit_of(stamp)));
    let pieces = pieces.collect::<Option<Vec<_>>>().filter(|it| it.len() <= PIECES_MAX)?;
    let signatures = |before: String, between: Option<&str>| {
        Stretch::Signatures(Signing {
            secret: KEY.into(),
            schemes: vec![(algorithm, before + &scheme.prefix)],
            notation,
            between: between.map(Into::into),
            pieces,
        })
    };
    let value = match &scheme.layout {
        Layout::One => vec![signatures(String::new(), None)],
        Layout::List { separator } => vec![signatures(String::new(), Some(separator))],
        Layout::Fields { signature, timestamp } => {
            let signatures = signatures(format!("{signature}="), Some(","));
            match timestamp {
                Some(name) => {
                    let before = Stretch::Text(format!("{name}="));
                    vec![before, time(), Stretch::Text(",".into()), signatures]
                }
                None => vec![signatures],
            }
        }
    };
    let mut rules = vec![Rule::made(&scheme.header, value)];
    if let Some(Timestamp { header: Some(name), .. }) = stamp {
        rules.push(Rule::made(name, [time()]));
    }
    Some(rules)
}

fn unit_of(timestamp: Option<&Timestamp>) -> TimeUnit {
    match timestamp.map(|it| it.unit) {
        Some(Unit::Ms) => TimeUnit::Milliseconds,
        Some(Unit::S) | None => TimeUnit::Seconds,
    }
}

fn signed(piece: &Piece, unit: TimeUnit) -> Option<Signed> {
    Some(match piece {
        Piece::Literal(text) => Signed::Text(text.clone()),
        Piece::Body => Signed::Body,
        Piece::Timestamp => Signed::Time(unit),
        Piece::Method => Signed::Method,
        Piece::Url => Signed::Url,
        Piece::Path | Piece::Query | Piece::Form | Piece::Header(_) => return None,
    })
}
