# Two commands for a newcomer: `make demo` and `make test`. Everything they need beyond Rust and a C compiler
# they fetch themselves, and say so. One build profile serves both; `make dist` and `make bench` have another.

# The binary to ship is laid out by what deliveries ran when `make profile` counted. What another compiler or another
# version of a crate has changed, it is built without.
TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
DIST = --quiet --locked --profile dist --package plugpost --target $(TRIPLE)
BY_PROFILE = RUSTFLAGS="-Cprofile-use=$(CURDIR)/host/plugpost.profdata -Cllvm-args=-no-pgo-warn-mismatch"

.PHONY: help demo test dist profile torture simulate fuzz bench charts check chromium registry postgres host control plugins examples

help: ## Show what there is to make
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

demo: host examples ## Start the engine on examples/five-platforms, with a sender and a receiver
	target/release/plugpost demo examples/five-platforms $(DEMO)

test: check host examples chromium registry postgres ## Run every test
	cargo build --quiet --locked --release --package verify
	$(MAKE) --no-print-directory control
	cargo test --locked --release --workspace --exclude plugpost --exclude verify --exclude native
	cargo test --locked --release --package plugpost -- --skip measured::
	cargo test --locked --release --package plugpost --test integration -- --test-threads 1 measured::
	@if command -v python3 >/dev/null; then EXAMPLES=5 tests/fuzz-api.sh; else echo "no python3: the API is not fuzzed"; fi
	FUZZ_SECONDS=5 tests/fuzz-parsers.sh

dist: ## Build the binary to ship, target/dist/plugpost: all crates optimised as one program, by a profile
	@[ -x target/dist/plugpost ] || echo "building: the host as one program (about 20 minutes on two cores, once)"
	@$(BY_PROFILE) cargo build $(DIST) --bin plugpost
	@cp target/$(TRIPLE)/dist/plugpost target/dist/plugpost

profile: plugins postgres ## Count what deliveries run, for `make dist`: host/plugpost.profdata
	@echo "building: the host that counts (about 25 minutes on two cores)"
	@rustup component add llvm-tools
	@rm -rf target/profile/raw
	@RUSTFLAGS="-Cprofile-generate=$(CURDIR)/target/profile/raw" \
		cargo build $(DIST) --bin plugpost --target-dir target/profile
	BENCH_ENGINE=$(CURDIR)/target/profile/$(TRIPLE)/dist/plugpost BENCH_SECONDS=1 BENCH_ONLY=relay,rates,guest \
		cargo bench --quiet --locked --package plugpost --profile release --bench relay
	python3 tests/bench/profile.py
	@rm -rf target/$(TRIPLE)/dist # Cargo does not see that what it compiled by is another.

simulate: ## Worlds made by seeds, in virtual time (SIMULATION_SEEDS, or one SIMULATION_SEED)
	SIMULATION_SEEDS=$${SIMULATION_SEEDS:-10000} cargo test --quiet --locked --release --package plugpost --lib simulation -- --nocapture

torture: control host plugins $(if $(ONLY),,simulate) ## Kills, losses of power, disks that fail, flipped bits, clocks, seeds: all of it (TORTURE_ROUNDS, TORTURE_SEED, ONLY)
	TORTURE=all cargo test --quiet --locked --release --package plugpost --test integration torture::$(ONLY) -- --nocapture --test-threads=1

fuzz: host ## Fuzz the admin API by its own description (EXAMPLES), and every parser and plugin (FUZZ_SECONDS, FUZZ_ONLY)
	tests/fuzz-api.sh
	tests/fuzz-parsers.sh

bench: plugins postgres ## Measure the binary to ship beside a raw hyper relay, and more: docs/performance.md (BENCH_SECONDS, BENCH_ONLY)
	$(BY_PROFILE) cargo bench $(DIST) --bench relay

charts: ## Draw what was measured into docs/performance.md
	@target/venv/bin/python -c "import matplotlib" 2>/dev/null || { \
		echo "installing matplotlib into target/venv"; \
		python3 -m venv target/venv; \
		target/venv/bin/pip --quiet --disable-pip-version-check install matplotlib==3.10.9; }
	target/venv/bin/python tests/bench/charts.py

# $(call install,IS_THERE,PACKAGES,WHY,BEFORE)
define install
	@$(1) || { \
		echo "installing $(2): $(3)"; \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		$(4) $$sudo apt-get update && $$sudo apt-get install -y --no-install-recommends $(2); }
endef

# The dashboard is tested in a real browser, driven by its own driver.
chromium:
	$(call install,command -v chromedriver >/dev/null,chromium chromium-driver,the dashboard is tested in a real browser)

# Plugins are pushed to and pulled from a real registry. The package also starts one of its own where there is systemd.
registry:
	$(call install,command -v docker-registry >/dev/null,docker-registry,plugins are pulled from a real registry)

# The tests start PostgreSQL servers of their own; the package is to start none.
postgres:
	$(call install,ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null,postgresql,the second store is tested on a real server,$(NO_CLUSTER))

NO_CLUSTER = $$sudo mkdir -p /etc/postgresql-common; \
	echo "create_main_cluster = false" | $$sudo tee /etc/postgresql-common/createcluster.conf >/dev/null;

check: ## Formatting
	cargo fmt --check

host:
	@[ -x target/release/plugpost ] || echo "building: the host (about ten minutes on two cores, once)"
	@cargo build --quiet --locked --release --package plugpost

# The engine with three mistakes built in, for the tests that must see them; and the fuzzer, for which each edge is
# counted. Coverage of the host alone: the crates it stands on are built as ever, and not again.
control:
	$(call install,command -v c++ >/dev/null,g++,libFuzzer is written in C++)
	@RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/tests/fuzz/rustc-with-coverage cargo build --quiet --locked --release \
		--package plugpost --features control --bin plugpost-control --bin plugpost-fuzz

plugins:
	@plugins/build.sh

# An example is a complete folder: it has its own copy of the plugins it uses.
examples: plugins
	@for folder in examples/*/; do \
		[ -f $$folder/plugpost.toml ] || continue; \
		mkdir -p $$folder/plugins; \
		for use in $$(sed -n 's/^\(plugin\|platform\) = "\(.*\)"/\2/p' $$folder/sources/*.toml $$folder/routes/*.toml | sort -u); do \
			cmp -s target/plugins/$$use.wasm $$folder/plugins/$$use.wasm || cp target/plugins/$$use.wasm $$folder/plugins/; \
		done; \
	done
