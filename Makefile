# What a person types. `make` lists the targets; each CI step is one of them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

ZIG_TARGET := x86_64-unknown-linux-gnu
GLIBC := 2.17
BINARIES := target/$(ZIG_TARGET)/release
# Times in packages: the last commit's, so that the same commit gives the same bytes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1767225600)
export SOURCE_DATE_EPOCH
PACKAGING := cargo run --quiet --package packaging --
# In CI a test that can't run is a failure.
ifeq ($(CI),true)
export MESO_REQUIRE_ALL := 1
endif

.NOTPARALLEL:
.PHONY: help up test check lint rpm repo lab ui tools tools-to-build binaries bench-zookeeper bench-mesos

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: tools-to-build ui ## a whole cluster on this machine, unprivileged; Ctrl-C ends it
	cargo run --quiet --package meso --bin meso -- up

# The whole workspace is built at once, packaging with it: a package by itself would build what it depends on once more.
test: tools lint ## everything: installs what the tests need (Debian), builds, runs all tests, end to end included
	cargo build --quiet --workspace --bins
	$(MAKE) rpm PACKAGING=target/debug/packaging
	tests/python-clients.sh
	cargo test --quiet --workspace --doc
	scripts/run-tests

check: ui lint ## quick: formatting, lints, units and packaging without hosts
	cargo test --quiet --package packaging

lint: ui
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- --deny warnings
	scripts/check-dependencies

rpm: binaries ## the packages, in target/rpms (BASEURL=… sets the repository's address)
	$(PACKAGING) rpm --binaries $(BINARIES) $(if $(BASEURL),--baseurl $(BASEURL))
	$(PACKAGING) check

repo: rpm ## a yum repository of them, in target/repo, for file:// or any web server
	$(PACKAGING) repo

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
	packaging/zigbuild --release --target $(ZIG_TARGET).$(GLIBC) --bins \
		--package zookeeper --package zkcli --package master --package agent --package mesos-cli --package marathon \
		--package meso
