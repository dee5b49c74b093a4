//! How late deliveries are at a fixed rate: 200 a second, and half of what each system has
//! just done flat out. Beside a raw hyper relay, which has no disk to wait for.

use serde_json::Value;

use crate::Bench;
use crate::engine::Hub;
use crate::load::Scenario;
use crate::results::Section;
use crate::system::{System, side_by_side};

const FLAT_OUT: Scenario = Scenario::of(350, 100);
const SLOW: u64 = 200;

pub(crate) fn measure(bench: &Bench, section: &mut Section) {
    let hub = || Hub::new(&bench.receiver.ports);
    let systems = [
        System::relay(&bench.receiver),
        System::sqlite("sqlite", hub()),
        System::postgres("postgres", vec![hub()]),
    ];
    let under = |pace: &dyn Fn(usize) -> Scenario| {
        let loads: Vec<_> = systems.iter().enumerate().map(|(at, it)| (it, pace(at))).collect();
        side_by_side(bench, &loads)
    };
    let most = under(&|_| FLAT_OUT);
    let half: Vec<_> = most.iter().map(|it| (it.per_second() / 2.0).max(1.0) as u64).collect();
    let slow = under(&|_| FLAT_OUT.at(SLOW));
    let busy = under(&|at| FLAT_OUT.at(half[at]));
    for (name, all) in [("flat out", most), ("200/s", slow), ("half of flat out", busy)] {
        for (at, it) in all.iter().enumerate() {
            // Where each has its own rate, nothing is to be compared.
            let (asked, beside) = match name {
                "200/s" => (SLOW.into(), Some(&all[0])),
                "half of flat out" => (half[at].into(), None),
                _ => (Value::Null, Some(&all[0])),
            };
            let mut row = it.row(name, beside);
            row.push(("asked_per_second", asked));
            section.row(row);
        }
    }
}
