// The component's entry. What the plugin does is in plugin/.
//
// bindings/ is generated, with `wit-bindgen go --world platform --generate-stubs --pkg-name
// parcels/bindings --out-dir bindings wit` (0.63), but for the few lines in bindings/exports/*/
// that call plugin/. Another set of roles needs another world and no more.
package main

import _ "parcels/bindings/exports/wit_exports"

func main() {}
