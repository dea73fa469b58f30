# `make demo` grades the sample photographs; `make test` runs the tests. Both need Python 3.11 to 3.13, pip and make.
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
SBOM := sbom
IMAGES := worker gpu producer console flower
FOREIGN_IMAGES := valkey postgres seaweedfs prometheus grafana orthanc
INSTALL := PYTHON=$(PYTHON) sh deploy/locks/install.sh $(VENV)
# uv compiles nothing, so that a program compiles what it imports first. Without the result on disk, each start of a worker
# would do so again, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo console test test-slow faults soak fuzz bench check sbom digests env lock clean
.DELETE_ON_ERROR:

help:  ## Show these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.worker  ## Grade the sample photographs on embedded servers
	$(BIN)/fundus demo $(DEMO)

console: $(VENV)/.console  ## Install the review console in the environment

test: $(VENV)/.dev  ## Run the tests on real servers (about 22 minutes on 2 cores)
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

test-slow: $(VENV)/.dev  ## Run all tests, including the slow ones
	$(BIN)/pytest $(TESTS)

faults: $(VENV)/.dev  ## Run the fault tests of servers, workers and images (about 50 minutes on 2 cores)
	$(BIN)/pytest tests/faults --deselect tests/faults/test_soak.py $(TESTS)

soak: $(VENV)/.dev  ## Grade 20,000 photographs with a random fault every 30 s (about 10 minutes on 2 cores)
	$(BIN)/pytest tests/faults/test_soak.py -s $(TESTS)

fuzz: $(VENV)/.dev  ## Fuzz every input with damaged and hostile data (about 30 minutes on 2 cores)
	$(BIN)/python -m tests.fuzz.run $(FUZZ)

bench: $(BENCH_VENV)/.bench  ## Benchmark against other projects and write RESULTS.md (about 30 minutes on 2 idle cores)
	for part in engines cold_start end_to_end live_latency queue_depth memory ledger_scale chunk_end stub_engine cpu_profile; do \
		$(BENCH_VENV)/bin/python -m tests.benchmarks.$$part || exit 1; \
	done

check: $(VENV)/.dev  ## Lint, format check, import rules, strict types and documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/properdocs build --quiet --strict --site-dir $(VENV)/docs

sbom: $(VENV)/.dev  ## Write the software bill of materials of each image (CycloneDX) into sbom/
	mkdir -p $(SBOM)
	for image in $(IMAGES); do \
		$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
			--output-file $(SBOM)/$$image.cdx.json deploy/locks/$$image.txt || exit 1; \
	done

digests:  ## Write docker-compose.digests.yml with the digest of each foreign image (needs Docker and its registry)
	docker compose --profile observability --profile pacs config --lock-image-digests $(FOREIGN_IMAGES) >docker-compose.digests.yml

env:  ## Write .env with random secrets for docker compose
	$(PYTHON) deploy/write_env.py .env

lock:  ## Update the lock files (needs uv)
	bash deploy/locks/lock.sh

clean:  ## Remove the environments and the demo output
	rm -rf $(VENV) $(BENCH_VENV) demo-out

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, {v[0]}.{v[1]} found: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.worker: deploy/locks/worker.txt deploy/locks/build.txt deploy/locks/uv.txt pyproject.toml | $(BIN)/python
	$(INSTALL) build worker --editable .
	touch $@

$(VENV)/.console: deploy/locks/console.txt $(VENV)/.worker
	$(INSTALL) console
	touch $@

$(VENV)/.dev: deploy/locks/dev.txt $(VENV)/.worker
	$(INSTALL) dev
	touch $@

# The compared projects are not locked (about 3 GB); locked packages keep their versions.
$(BENCH_VENV)/.bench: deploy/locks/dev.txt deploy/locks/worker.txt deploy/locks/build.txt pyproject.toml
	$(MAKE) VENV=$(BENCH_VENV) $(BENCH_VENV)/.dev
	$(PYTHON) -m pip --python $(BENCH_VENV)/bin/python freeze --exclude-editable >$(BENCH_VENV)/locked.txt
	$(PYTHON) -m pip --python $(BENCH_VENV)/bin/python install --quiet --no-build-isolation \
		--constraint $(BENCH_VENV)/locked.txt --editable '.[bench]'
	# Two of them install a package `tests`, which would shadow ours.
	rm -rf $(BENCH_VENV)/lib/python3.*/site-packages/tests
	touch $@
