# The commands a person types. What they need (Debian packages, RocksDB, the tests' clients) is
# installed by tools/setup; everything built stays outside the clone, in $KUIK_CACHE.
SHELL := /bin/bash
ENV := tools/with-env
PROFILE ?= release
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help build up image test e2e ci lint fix bench images cluster cluster-down

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Builds the programs into ./bin
	@tools/setup build
	@tools/build-programs $(PROFILE)

up: build ## Starts three cache nodes and a proxy on localhost:7439 (more: ARGS="--demo")
	./bin/kuik up $(ARGS)

image: build ## Builds the container image into ./image, an OCI layout (more: ARGS="--tag REF")
	@$(ENV) cargo xtask image --output image --tag kube-image-keeper:latest --profile $(PROFILE) $(ARGS)

test: ## Runs all tests, the end-to-end ones with real clients included
	@tools/setup test
	@$(ENV) cargo xtask test

e2e: ## Runs the end-to-end tests alone, the long ones too (one of them: ARGS=name)
	@tools/setup test
	@$(ENV) cargo xtask e2e $(ARGS)

ci: ## Runs the whole gate, as CI does
	@tools/setup test
	@$(ENV) cargo xtask ci

lint: ## Runs the gate without the tests
	@tools/setup build
	@$(ENV) cargo xtask lint

fix: ## Formats, and applies what clippy can fix by itself
	@$(ENV) cargo xtask fix

bench: build ## Measures kuik beside docker-registry, distribution and nginx
	@tools/setup bench
	@$(ENV) cargo run --locked --release --package bench -- $(ARGS)

images: ## Builds the real images that the end-to-end tests pull
	@tools/setup clients
	@$(ENV) tools/images

cluster: ## Starts a real Kubernetes on this machine, as root (ARGS="--nodes 2 --containerd mixed")
	@tools/setup cluster
	@hack/cluster/cluster up $(ARGS)

cluster-down: ## Stops it and removes all of it
	@hack/cluster/cluster down
