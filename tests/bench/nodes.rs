//! What it costs to be several: one, two and three nodes on one PostgreSQL, with the same
//! rate spread over them. On one machine, so no more is delivered: it shows what they spend
//! on each other.

use crate::engine::Hub;
use crate::load::Scenario;
use crate::results::Section;
use crate::system::{System, side_by_side};
use crate::{Bench, number};

/// Of all nodes together; what one can do with room to spare.
const RATE: u64 = 400;

const NAMES: [&str; 3] = ["1 node", "2 nodes", "3 nodes"];

pub(crate) fn measure(bench: &Bench, section: &mut Section) {
    let scenario = Scenario::of(350, 100).at(number("BENCH_NODES_RATE", RATE));
    let hub = || Hub::new(&bench.receiver.ports);
    let systems = [1, 2, 3]
        .map(|nodes| System::postgres(NAMES[nodes - 1], (0..nodes).map(|_| hub()).collect()));
    let all = side_by_side(bench, &systems.each_ref().map(|it| (it, scenario)));
    for (nodes, it) in (1..).zip(&all) {
        let mut row = it.row(&scenario.to_string(), Some(&all[0]));
        row.push(("nodes", nodes.into()));
        section.row(row);
    }
}
