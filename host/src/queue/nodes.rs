//! What the processes on one store say of themselves, and whether they serve the same folder.

use crate::clock::UnixMs;

/// What a node says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// A digest of the folder that it serves.
    pub(crate) snapshot: String,
    /// When it was put in force there.
    pub(crate) since: UnixMs,
}

/// A node, as the store knows it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) number: u32,
    /// Its host and its process.
    pub(crate) name: String,
    /// None before it has said so.
    pub(crate) version: Option<String>,
    pub(crate) report: Option<Report>,
    /// Its last sign of life.
    pub(crate) seen: UnixMs,
    /// False when it has been silent for longer than its lease, and is about to be given up.
    pub(crate) alive: bool,
}

/// What this program calls itself.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// For people: which process this is.
pub(super) fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// The snapshot that most nodes have; of two that as many have, the one put in force last.
/// The others differ from it.
pub(crate) fn prevailing(nodes: &[Node]) -> Option<&str> {
    let reports = || nodes.iter().filter_map(|it| it.report.as_ref());
    let rank = |snapshot: &str| {
        let of_it = || reports().filter(|it| it.snapshot == snapshot);
        (of_it().count(), of_it().map(|it| it.since).max())
    };
    reports().map(|it| it.snapshot.as_str()).max_by_key(|it| rank(it))
}

/// Since when not all have the same; none when they have.
pub(crate) fn disagree_since(nodes: &[Node]) -> Option<UnixMs> {
    let mut reports: Vec<&Report> = nodes.iter().filter_map(|it| it.report.as_ref()).collect();
    reports.sort_by_key(|it| it.since);
    let first = reports.first()?;
    reports.iter().find(|it| it.snapshot != first.snapshot).map(|it| it.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(reports: &[(&str, u64)]) -> Vec<Node> {
        let node = |&(snapshot, since): &(&str, u64)| Node {
            number: 0,
            name: String::new(),
            version: None,
            report: Some(Report { snapshot: snapshot.into(), since: UnixMs(since) }),
            seen: UnixMs(0),
            alive: true,
        };
        reports.iter().map(node).collect()
    }

    #[test]
    fn those_differ_that_are_few_and_of_two_the_one_that_is_behind() {
        for (reports, prevails, since) in [
            (&[][..], None, None),
            (&[("a", 5)], Some("a"), None),
            (&[("a", 5), ("a", 9)], Some("a"), None),
            (&[("a", 5), ("a", 6), ("b", 9)], Some("a"), Some(9)),
            (&[("b", 9), ("a", 5)], Some("b"), Some(9)),
            (&[("a", 5), ("b", 2), ("b", 7)], Some("b"), Some(5)),
        ] {
            let nodes = nodes(reports);
            assert_eq!(prevailing(&nodes), prevails, "{reports:?}");
            assert_eq!(disagree_since(&nodes), since.map(UnixMs), "{reports:?}");
        }
    }
}
