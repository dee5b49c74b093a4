//! Which node has which lane. A lane is taken when something waits for it and it is
//! nobody's: by the node that rendezvous hashing chooses of those that live or, when that
//! one does not come (it may not know the route), by any other after a while. It is kept
//! until the choice falls on another because nodes have come or gone, and the node itself
//! has nothing of it in hand any more.
//!
//! What this process believes to have is only ever less than what the table says, and both
//! end with the node's lease; so no statement of a delivery has to look here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ask::record_of;
use super::connection::{Session, get};
use super::labels::Labels;
use super::node::Node;
use super::waiting::Floor;
use crate::clock::UnixMs;
use crate::delivery::Lease;
use crate::queue::values::unsigned;
use crate::queue::{EndpointRecord, Hold, QueueError, Taken, Waiting};

/// What the writer and the watch know of the lanes.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    own: i64,
    /// The leases of the nodes that live.
    live: Vec<i64>,
    /// With each, from where a claim looks.
    held: HashMap<Arc<str>, Floor>,
    /// Taken, and their lane in this process does not know yet.
    taken: HashMap<Arc<str>, Taken>,
    /// Nobody sees to them though something waits, since when.
    free: HashMap<Arc<str>, Instant>,
}

/// So long a lane is left to the node that is chosen for it.
const FREE_MAX: Duration = Duration::from_millis(1500);

/// The lanes that are nobody's go to this node, while it lives. What was spent of their
/// rate limits goes with them, and what is known of their endpoints.
const TAKE: &str = "
    WITH taken AS (
        INSERT INTO lanes (route, lease, epoch)
        SELECT route, lease, 1 FROM unnest($1::int[]) route,
            (SELECT lease FROM nodes WHERE number = $2 AND lease = $3 FOR KEY SHARE) node
        ON CONFLICT (route) DO UPDATE SET lease = excluded.lease, epoch = lanes.epoch + 1
            WHERE lanes.lease IS NULL OR lanes.lease = excluded.lease
        RETURNING route, spent, unsure)
    SELECT r.text, u.text, failing_since, disabled_since, reason, rest_until, rest_cause, change,
        spent, unsure
    FROM taken t JOIN labels r ON r.id = t.route
    LEFT JOIN endpoints e ON e.route = t.route LEFT JOIN labels u ON u.id = e.url";

impl Lanes {
    /// This process is another node now, and has nothing.
    pub(super) fn begin(&self, node: Node) {
        let mut known = self.0.lock();
        *known =
            Known { own: node.lease.0, live: std::mem::take(&mut known.live), ..Known::default() };
    }

    /// A route that will not come back has no lane.
    pub(super) fn forget(&self, route: &str) {
        let mut known = self.0.lock();
        known.held.remove(route);
        known.taken.remove(route);
    }

    pub(super) fn holds(&self, route: &str) -> bool {
        self.0.lock().held.contains_key(route)
    }

    /// Does this node have the lane, or may it take it?
    pub(super) fn concerns(&self, route: &str) -> bool {
        let known = self.0.lock();
        known.held.contains_key(route) || known.may_take(route)
    }

    /// From where a claim looks.
    pub(super) fn floor(&self, route: &str) -> Floor {
        self.0.lock().held.get(route).copied().unwrap_or_default()
    }

    /// A claim that looked from `before` has seen all that is due before `floor`. What was
    /// found meanwhile counts.
    pub(super) fn raise(&self, route: &str, before: Floor, floor: Floor) {
        if let Some(it) = self.0.lock().held.get_mut(route).filter(|it| **it == before) {
            *it = floor.max(before);
        }
    }

    /// Something waits since then, in whichever lane.
    pub(super) fn lower_all(&self, floor: Floor) {
        self.0.lock().held.values_mut().for_each(|it| *it = floor.min(*it));
    }

    /// A look has found this.
    pub(super) fn lower(&self, waiting: &[(Waiting, Option<i64>)]) {
        let mut known = self.0.lock();
        for (Waiting { route, first_due }, _) in waiting {
            if let Some(it) = known.held.get_mut(route) {
                *it = (*first_due).min(*it);
            }
        }
    }

    /// What a claim may say of the lane.
    pub(super) fn hold(&self, route: &str, lease: Lease) -> Hold {
        let mut known = self.0.lock();
        match known.taken.remove(route) {
            _ if !known.held.contains_key(route) => Hold::Not,
            Some(taken) => Hold::Taken(taken),
            None => Hold::Held(lease),
        }
    }

    /// Take what of these lanes is nobody's and may be taken by this node.
    pub(super) async fn take(
        &self,
        session: &mut Session,
        routes: impl Iterator<Item = &Arc<str>>,
        labels: &Labels,
        node: Node,
    ) -> Result<(), QueueError> {
        let mut wanted = Vec::new();
        {
            let known = self.0.lock();
            for route in routes.filter(|it| !known.held.contains_key(*it) && known.may_take(it)) {
                wanted.push(labels.id(route)?);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.sort_unstable();
        wanted.dedup();
        // The third mistake of the control: it takes what another has.
        if cfg!(feature = "control") {
            let sql = "UPDATE lanes SET lease = NULL WHERE route = ANY($1)";
            session.client.execute(sql, &[&wanted]).await?;
        }
        let take = session.prepared(TAKE).await?;
        let rows = session.client.query(&take, &[&wanted, &node.number, &node.lease.0]).await?;
        let mut known = self.0.lock();
        for row in &rows {
            let route: Arc<str> = get::<&str>(row, 0)?.into();
            let spent: Vec<i64> = get(row, 8)?;
            let moment = |it: &[i64; 2]| (UnixMs(unsigned(it[0])), unsigned(it[1]));
            let spent = spent.as_chunks::<2>().0.iter().map(moment).collect();
            let unsure = unsigned(get(row, 9)?);
            known.held.insert(route.clone(), Floor::default());
            known.free.remove(&route);
            let taken = known.taken.entry(route).or_insert_with(|| Taken {
                lease: node.lease,
                spent,
                unsure,
                known: Vec::new(),
            });
            if get::<Option<&str>>(row, 1)?.is_some() {
                taken.known.push(record_of(row)?);
            }
        }
        Ok(())
    }

    /// Let go of a lane of which nothing is in hand.
    pub(super) async fn give_up(
        &self,
        session: &Session,
        route: &str,
        node: Node,
    ) -> Result<(), QueueError> {
        self.forget(route);
        let sql = "UPDATE lanes SET lease = NULL
                   WHERE route = (SELECT id FROM labels WHERE md5(text) = md5($1)) AND lease = $2";
        session.client.execute(sql, &[&route, &node.lease.0]).await?;
        Ok(())
    }

    /// After a session that broke: a statement may have been carried out whose answer never
    /// came. What only one of table and memory has is nobody's.
    pub(super) async fn compare(&self, session: &Session, node: Node) -> Result<(), QueueError> {
        let held: Vec<Arc<str>> = self.0.lock().held.keys().cloned().collect();
        let held: Vec<&str> = held.iter().map(|it| &**it).collect();
        let sql = "UPDATE lanes SET lease = NULL WHERE lease = $1 AND route <> ALL
                       (SELECT id FROM labels WHERE md5(text) IN
                            (SELECT md5(it) FROM unnest($2::text[]) it))";
        session.client.execute(sql, &[&node.lease.0, &held]).await?;
        let sql = "SELECT r.text FROM lanes l JOIN labels r ON r.id = l.route WHERE l.lease = $1";
        let rows = session.client.query(sql, &[&node.lease.0]).await?;
        let mut there = HashSet::new();
        for row in &rows {
            there.insert(get::<&str>(row, 0)?);
        }
        self.0.lock().held.retain(|it, _| there.contains(&**it));
        Ok(())
    }

    /// Look who lives. Returns the lanes that this node has and another should have, when
    /// nodes have come or gone.
    pub(super) async fn look(&self, session: &Session) -> Result<Vec<Arc<str>>, QueueError> {
        let sql = "SELECT lease FROM nodes WHERE lease IS NOT NULL ORDER BY lease";
        let rows = session.client.query(sql, &[]).await?;
        let live = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()?;
        let mut known = self.0.lock();
        if known.live == live {
            return Ok(Vec::new());
        }
        known.live = live;
        Ok(known.held.keys().filter(|it| !known.is_chosen(it)).cloned().collect())
    }

    /// Something due waits for these routes; with each, who has its lane.
    /// Returns those that this node is to see to.
    pub(super) fn wait(&self, due: Vec<(Arc<str>, Option<i64>)>) -> Vec<Arc<str>> {
        let mut known = self.0.lock();
        let now = Instant::now();
        let free = due.iter().filter(|(_, holder)| holder.is_none()).map(|(route, _)| route);
        let since = |it: &Arc<str>| known.free.get(it).copied().unwrap_or(now);
        let free = free.map(|it| (it.clone(), since(it))).collect();
        known.free = free;
        let ours = due.into_iter().map(|(route, _)| route);
        ours.filter(|it| known.held.contains_key(it) || known.may_take(it)).collect()
    }
}

impl Known {
    fn may_take(&self, route: &str) -> bool {
        cfg!(feature = "control") || self.is_chosen(route) || self.is_overdue(route)
    }

    fn is_overdue(&self, route: &str) -> bool {
        self.free.get(route).is_some_and(|since| since.elapsed() > FREE_MAX)
    }

    /// Rendezvous hashing: when a node comes or goes, only its own lanes move.
    fn is_chosen(&self, route: &str) -> bool {
        let weight = |lease: i64| (weight(route, lease), lease);
        let own = weight(self.own);
        self.live.iter().all(|it| weight(*it) <= own)
    }
}

/// FNV-1a, and a last step that spreads it (MurmurHash3's).
fn weight(route: &str, lease: i64) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = route.bytes().chain(lease.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// What the other nodes have written down of endpoints lately.
pub(super) async fn changed(
    session: &Session,
    own: Lease,
    within_s: f64,
) -> Result<Vec<(i64, EndpointRecord)>, QueueError> {
    let sql =
        "SELECT r.text, u.text, failing_since, disabled_since, reason, rest_until, rest_cause,
                   change
               FROM endpoints e JOIN labels r ON r.id = e.route JOIN labels u ON u.id = e.url
               WHERE changed > clock_timestamp() - $2 * interval '1 second'
                   AND written_by IS DISTINCT FROM $1
               ORDER BY change";
    let rows = session.client.query(sql, &[&own.0, &within_s]).await?;
    rows.iter().map(|row| Ok((get(row, 7)?, record_of(row)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_one_nodes_and_moves_only_when_its_node_goes() {
        let nodes = [3, 7, 12];
        let known = |own, live: &[i64]| Known { own, live: live.to_vec(), ..Known::default() };
        let mut share = HashMap::new();
        for at in 0..3000 {
            let route = format!("route-{at}");
            let chosen = |live: &[i64]| {
                let of_live = live.iter().copied();
                let mut chosen = of_live.filter(|it| known(*it, live).is_chosen(&route));
                let one = chosen.next().expect("somebody");
                assert_eq!(chosen.next(), None);
                one
            };
            let before = chosen(&nodes);
            *share.entry(before).or_insert(0) += 1;
            let after = chosen(&[3, 12]);
            assert!(after == before || before == 7, "{route}: {before} to {after}");
        }
        assert!(share.values().all(|it| (900..1100).contains(it)), "{share:?}");
    }
}
