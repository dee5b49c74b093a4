//! What the nodes say of themselves, for people.

use super::connection::{Session, get};
use super::node::Node;
use crate::clock::UnixMs;
use crate::queue::QueueError;
use crate::queue::nodes::{self, Report, VERSION};
use crate::queue::values::{signed, unsigned};

/// Say what this node serves.
pub(super) async fn report(
    session: &Session,
    node: Node,
    report: Option<&Report>,
) -> Result<(), QueueError> {
    let Some(Report { snapshot, since }) = report else { return Ok(()) };
    let sql = "UPDATE nodes SET version = $3, snapshot = $4, snapshot_since = to_timestamp($5::bigint / 1000.0)
               WHERE number = $1 AND lease = $2";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&node.number, &node.lease.0, &VERSION, snapshot, &signed(since.0)];
    session.client.execute(sql, &values).await?;
    Ok(())
}

/// Those that have not left and were not given up.
pub(super) async fn all(session: &Session) -> Result<Vec<nodes::Node>, QueueError> {
    let sql = "SELECT number, name, version, snapshot,
                   (extract(epoch FROM snapshot_since) * 1000)::bigint,
                   (extract(epoch FROM renewed) * 1000)::bigint, expires >= clock_timestamp()
               FROM nodes WHERE lease IS NOT NULL ORDER BY number";
    let rows = session.client.query(sql, &[]).await?;
    let moment = |it: i64| UnixMs(unsigned(it));
    let node = |row| {
        let since = get::<Option<i64>>(row, 4)?.map(moment);
        Ok(nodes::Node {
            number: get::<i32>(row, 0)?.unsigned_abs(),
            name: get(row, 1)?,
            version: get(row, 2)?,
            report: get::<Option<String>>(row, 3)?
                .zip(since)
                .map(|(snapshot, since)| Report { snapshot, since }),
            seen: moment(get(row, 5)?),
            alive: get(row, 6)?,
        })
    };
    rows.iter().map(node).collect()
}
