//! Flat out beside a raw hyper relay, on both stores: as payloads and endpoints grow, one
//! event to many, and with more or less of plugins.

use crate::Bench;
use crate::engine::{Hub, Plugins};
use crate::load::Scenario;
use crate::results::Section;
use crate::system::{System, side_by_side};

const GRID: [Scenario; 7] = [
    Scenario::of(350, 1),
    Scenario::of(350, 100),
    Scenario::of(350, 10_000),
    Scenario::of(8192, 1),
    Scenario::of(8192, 100),
    Scenario::of(8192, 10_000),
    Scenario::of(65_536, 100),
];

pub(crate) fn measure(bench: &Bench, section: &mut Section) {
    let ports = &bench.receiver.ports;
    for scenario in GRID {
        let hub = || Hub::of(ports, scenario.endpoints, Plugins::Platform);
        compare(bench, section, scenario, hub);
    }
    compare(bench, section, Scenario::fan_out(350, 100), || Hub::new(ports));

    for bytes in [350, 8192] {
        let scenario = Scenario::of(bytes, 100);
        let hub = |plugins| Hub::of(ports, scenario.endpoints, plugins);
        let systems = [
            System::relay(&bench.receiver),
            System::sqlite("no plugin", hub(Plugins::None)),
            System::sqlite("a filter", hub(Plugins::Filter)),
            System::sqlite("a platform", hub(Plugins::Platform)),
        ];
        show(bench, section, scenario, &systems);
    }
}

fn compare(bench: &Bench, section: &mut Section, scenario: Scenario, hub: impl Fn() -> Hub) {
    let systems = [
        System::relay(&bench.receiver),
        System::sqlite("sqlite", hub()),
        System::postgres("postgres", vec![hub()]),
    ];
    show(bench, section, scenario, &systems);
}

fn show(bench: &Bench, section: &mut Section, scenario: Scenario, systems: &[System]) {
    let loads: Vec<_> = systems.iter().map(|it| (it, scenario)).collect();
    let all = side_by_side(bench, &loads);
    for it in &all {
        let mut row = it.row(&scenario.to_string(), Some(&all[0]));
        row.extend(scenario.columns());
        section.row(row);
    }
}
