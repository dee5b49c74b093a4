//! A guest that imports WASI because its language does gets an inert one.

use crate::support;

#[test]
fn wasi_has_frozen_clocks_repeating_randomness_and_no_environment() {
    let cases = support::root().join("tests/components/inert-wasi/cases");
    let plugin = support::plugin("inert-wasi");
    let arguments = ["plugin".as_ref(), "test".as_ref(), plugin.as_os_str(), cases.as_os_str()];
    let ran = support::plugpost(arguments);
    assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
}
