# What a person types. `make` lists the targets; each CI step is one of them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

ZIG_TARGET := x86_64-unknown-linux-gnu
GLIBC := 2.17
# Cargo's profile of the programs in packages. Those that `make test` makes are less optimised, and kept apart.
PROFILE := release
BINARIES := target/$(ZIG_TARGET)/$(PROFILE)
RPMS := $(if $(filter release,$(PROFILE)),target/rpms,target/$(PROFILE)/rpms)
# Times in packages: the last commit's, so that the same commit gives the same bytes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1767225600)
export SOURCE_DATE_EPOCH
PACKAGING := cargo run --quiet --package packaging --
# In CI a test that can't run is a failure.
ifeq ($(CI),true)
export MESO_REQUIRE_ALL := 1
endif

.NOTPARALLEL:
.PHONY: help up test soak check lint rpm repo lab ui tools tools-to-build binaries bench-zookeeper bench-mesos

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: tools-to-build ui ## a whole cluster on this machine, unprivileged; Ctrl-C ends it
	cargo run --quiet --package meso --bin meso -- up

# The whole workspace is built at once, tests and programs with the same features of the same libraries: a package or the programs
# by themselves would build what they depend on once more.
test: ## everything: installs what the tests need (Debian), builds, runs all tests, end to end included
	@scripts/step --first tools scripts/install-tools
	@scripts/step lint $(MAKE) lint
	@scripts/step build cargo build --quiet --workspace --all-targets
	@scripts/step packages $(MAKE) rpm PROFILE=trial PACKAGING=target/debug/packaging
	@scripts/step clients tests/python-clients.sh
	@scripts/step
	@scripts/run-tests

# Ten thousand seeds a day, those of no day before; for a machine that has nothing else to do at night.
SEEDS ?= $(shell day=$$(($$(date +%s) / 86400)); echo $$((day * 10000))..$$((day * 10000 + 10000)))

soak: ## simulated histories beyond the tests': today's seeds, or SEEDS=m..n; a failure names its seed
	SEEDS=$(SEEDS) nice cargo test --quiet --package sim --test cluster
	SEEDS=$(SEEDS) nice cargo test --quiet --package zookeeper --lib quorum::simulation::runs

check: ui lint ## quick: formatting, lints, units and packaging without hosts
	cargo test --quiet --package packaging

lint: ui
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- --deny warnings
	scripts/check-dependencies

rpm: binaries ## the packages, in target/rpms (BASEURL=… sets the repository's address)
	$(PACKAGING) rpm --binaries $(BINARIES) --out $(RPMS) $(if $(BASEURL),--baseurl $(BASEURL))
	$(PACKAGING) check --rpms $(RPMS)

repo: rpm ## a yum repository of them, in target/repo, for file:// or any web server
	$(PACKAGING) repo --rpms $(RPMS)

lab: ## three test hosts, as root, until `../shared/lab/lab down`
	../shared/lab/lab up 3 --as centos7

ui: ## the web pages, embedded in the daemons by the next build
	scripts/build-ui

bench-zookeeper: ## our ZooKeeper server beside Apache's: speed, CPU, memory; QUICK=1 for a short run
	cargo build --quiet --release --package zookeeper --package bench-zookeeper
	target/release/bench-zookeeper $(if $(QUICK),--quick)

bench-mesos: ## our Mesos master and agent at scale, the original's beside them; QUICK=1 for a short run
	cargo build --quiet --release --package master --package agent --package bench-mesos
	target/release/bench-mesos $(if $(QUICK),--quick)

tools: ## installs what the tests need and this machine lacks, by apt
	scripts/install-tools

tools-to-build:
	scripts/install-tools build

# Programs that run on CentOS 7.
binaries: ui
	packaging/zigbuild $(if $(CI),--quiet) --profile $(PROFILE) --target $(ZIG_TARGET).$(GLIBC) --bins \
		--package zookeeper --package zkcli --package master --package agent --package mesos-cli --package marathon \
		--package meso
