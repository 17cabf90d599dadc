# The front door. `make run` and `make test` install whatever is missing, then do what they say.
#
#   make run     the agent on this machine's interfaces, in alert mode (CONFIG=FILE: as FILE says)
#   make test    every test, two at a time (TESTS="folders or files": only those, one at a time)
#   make test-peers  tests against real programs of others (OpenSearch, grpcurl, Prometheus ...), fetched
#   make test-kernels  smoke tests on other kernels, in virtual machines (KERNELS="6.1 6.12")
#   make demo    friendly and hostile traffic in two network namespaces, verdicts and alerts live
#   make check   style, types, layers, and whether all that is generated is fresh
#   make bench   measure, and write the table of docs/performance.md
#   make soak    hostile traffic and faults for HOURS=n (or MINUTES=n), then the picture in docs/images
#   make setup   what all of these share; gives .venv/bin/ebpfsentinel-agent
#   make deb     the Debian package, in dist/ (VERSION=X: called so)
#   make gen     write what is generated: events.py of the domains, the protocol, the example configuration
#   make format  format Python and C
#   make lock    pin the dependencies of pyproject.toml anew

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
EXAMPLE := config/ebpfsentinel.example.yaml
PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-input --progress-bar off

RUN_PACKAGES := python3 python3-venv clang llvm libbpf1 libseccomp2 libbpf-dev linux-libc-dev iproute2 ethtool
TEST_PACKAGES := git curl systemd clang-format xdp-tools iputils-ping ncat hping3 tcpdump procps nftables iptables
KERNEL_PACKAGES := qemu-system-x86 busybox-static cpio kmod xz-utils iproute2 ethtool
PEER_PACKAGES := maven openjdk-17-jdk-headless unzip debootstrap systemd-container
C_SOURCES = $(shell find src bench demo -name '*.bpf.c' -o -name '*.h')

# $(call install,packages): those that are missing, by apt; without any, no apt is run.
define install
missing=""; \
for package in $(1); do \
	dpkg-query -W -f='$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' || missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
	[ "$$(id -u)" = 0 ] || { echo "As root, please: apt-get install$$missing" >&2; exit 1; }; \
	echo "Installing with apt:$$missing"; \
	apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

# $(call mounted,type,folder): mount a kernel file system where the machine has not.
define mounted
if [ "$$(id -u)" = 0 ] && ! mountpoint -q $(2); then \
	echo "Mounting $(1) at $(2)"; mount -t $(1) $(1) $(2) || echo "$(2) cannot be mounted here" >&2; \
fi
endef

# $(call protoc,folder): the Python of the protocol, into a folder that stands for src.
PROTO := src/ebpfsentinel/api/grpc/alerts.proto
define protoc
$(BIN)/python -m grpc_tools.protoc -Isrc --python_out=$(1) --pyi_out=$(1) --grpclib_python_out=$(1) \
	--plugin=protoc-gen-grpclib_python=$(BIN)/protoc-gen-grpclib_python $(PROTO)
endef

.PHONY: help
help:
	@sed -n '/^#/!q;s/^# \{0,2\}//p' Makefile

.PHONY: setup
setup: $(STAMPS)/package
	@$(BIN)/python -m ebpfsentinel.kernel.build
	@$(call mounted,bpf,/sys/fs/bpf)
	@$(call mounted,tracefs,/sys/kernel/tracing)

$(STAMPS)/apt: Makefile
	@$(call install,$(RUN_PACKAGES))
	@[ -x $(BIN)/python ] || { echo "Making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dependencies: requirements.lock $(STAMPS)/apt
	@echo "Installing the pinned dependencies (requirements.lock)"
	@$(PIP) -q --require-hashes -r requirements.lock
	@touch $@

$(STAMPS)/package: pyproject.toml hatch_build.py $(STAMPS)/dependencies
	@echo "Compiling the kernel programs and installing the agent into $(VENV)"
	@$(PIP) -q --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(STAMPS)/dev: requirements-dev.lock $(STAMPS)/package
	@$(call install,$(TEST_PACKAGES))
	@echo "Installing what tests and checks need (requirements-dev.lock)"
	@$(PIP) -q --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: run
run: setup
	@exec $(BIN)/ebpfsentinel-agent $(if $(CONFIG),--config $(CONFIG))

# By files: what a module has loaded, its tests share.
.PHONY: test
test: setup $(STAMPS)/dev
	@$(BIN)/pytest $(or $(TESTS),--numprocesses 2 --dist loadfile)

# Maven, Go and apt fetch the peers into .peers/ on the first run.
.PHONY: test-peers
test-peers: setup $(STAMPS)/dev
	@$(call install,$(PEER_PACKAGES))
	@command -v go >/dev/null || { $(call install,golang-go); }
	@$(BIN)/pytest -m peers --timeout 600 $(or $(TESTS),tests/peers)

# Without KERNELS: all of docs/kernels.md, which is written anew.
.PHONY: test-kernels
test-kernels: setup $(STAMPS)/dev
	@$(call install,$(KERNEL_PACKAGES))
	@$(BIN)/python -m tests.kernels $(KERNELS)

.PHONY: demo
demo: setup
	@$(BIN)/python -m demo

.PHONY: bench
bench: setup $(STAMPS)/dev
	@$(BIN)/python -m bench

# Hours: results and picture are kept. Minutes: they go to .soak/, as nothing but a check.
.PHONY: soak
soak: setup $(STAMPS)/dev
	@$(BIN)/python -m bench.soak $(if $(HOURS),$$(( $(HOURS) * 3600 )),$$(( $(or $(MINUTES),5) * 60 )) .soak)
.PHONY: deb
deb: setup
	@$(BIN)/python -m deploy.debian $(if $(VERSION),--version $(VERSION))

# `make -k check` goes on after a fault.
.PHONY: check lint types layers c-style fresh
check: lint types layers c-style fresh

lint: setup $(STAMPS)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup $(STAMPS)/dev
	$(BIN)/mypy
	$(BIN)/mypy --package demo --package deploy

layers: setup $(STAMPS)/dev
	$(BIN)/lint-imports --no-cache --no-logo

c-style: setup $(STAMPS)/dev
	clang-format --dry-run -Werror $(C_SOURCES)

fresh: setup $(STAMPS)/dev
	$(BIN)/python -m ebpfsentinel.kernel.gen --check
	$(BIN)/ebpfsentinel-agent config example | diff -u $(EXAMPLE) -
	$(BIN)/python -m ebpfsentinel.auth.page docs/security.md --check
	@$(call protoc,$(STAMPS))
	@for made in $(PROTO:.proto=_pb2.py) $(PROTO:.proto=_pb2.pyi) $(PROTO:.proto=_grpc.py); do \
		diff -u $$made $(STAMPS)/$${made#src/}; \
	done

.PHONY: gen
gen: setup $(STAMPS)/dev
	@$(BIN)/python -m ebpfsentinel.kernel.gen
	@mkdir -p config && $(BIN)/ebpfsentinel-agent config example > $(EXAMPLE)
	@$(BIN)/python -m ebpfsentinel.auth.page docs/security.md
	@$(call protoc,src)

.PHONY: format
format: setup $(STAMPS)/dev
	@$(BIN)/ruff format && $(BIN)/ruff check --fix
	@clang-format -i $(C_SOURCES)

# Hashes, but no registry address and no path: the lock says what, never from where.
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-annotate \
	--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
READ := import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb"));

.PHONY: lock
lock: setup $(STAMPS)/dev
	@$(BIN)/python -c '$(READ) print(*p["project"]["dependencies"], *p["build-system"]["requires"], "editables", sep="\n")' > $(STAMPS)/run.in
	@$(BIN)/python -c '$(READ) print(*p["dependency-groups"]["dev"], sep="\n")' > $(STAMPS)/dev.in
	@sed '/^#/d' requirements.lock > $(STAMPS)/run.lock; sed '/^#/d' requirements-dev.lock > $(STAMPS)/dev.lock
	@cd $(STAMPS) && PIP_FIND_LINKS= ../../$(LOCK) $(UPGRADE) -o run.lock run.in
	@cd $(STAMPS) && PIP_FIND_LINKS= ../../$(LOCK) $(UPGRADE) -c run.lock -o dev.lock dev.in
	@{ echo '# What the agent runs and is built with: exact versions with hashes. Made by `make lock`.'; cat $(STAMPS)/run.lock; } > requirements.lock
	@{ echo '# What tests and checks need on top of requirements.lock: exact versions with hashes. Made by `make lock`.'; cat $(STAMPS)/dev.lock; } > requirements-dev.lock

.PHONY: clean
clean:
	@find src -name '*.bpf.o' -delete
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
