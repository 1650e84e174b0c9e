# A newcomer's two commands: `make run` and `make test`. Everything else is listed by `make help`.
PYTHON ?= python3
PY := .venv/bin/python
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MPLBACKEND := Agg

.PHONY: help install run test review benchmarks lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

.venv/runtime: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.venv/development: requirements-dev.lock .venv/runtime
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

install: .venv/runtime ## create .venv from the locked requirements

run: install ## the demo: forecast, calibrate, backtest, sign and report on the embedded data
	$(PY) -m pipelines run --config pipelines/config/demo.yaml

test: .venv/development ## everything that must hold: format, lint, types, import contracts, tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) -m pytest -n 2 --dist worksteal

review: export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
review: export MLFLOW_DISABLE_TELEMETRY := true
review: export DO_NOT_TRACK := true
review: install ## MLflow with the runs of ./home on loopback
	.venv/bin/mlflow ui --workers 1 --backend-store-uri sqlite:///home/mlflow.db --host 127.0.0.1 --port 5000

benchmarks: install ## the tables under docs/benchmarks that need no data of your own
	$(PY) -m pipelines benchmark forecast --config pipelines/config/indices.yaml --write-docs
	$(PY) -m pipelines benchmark speed --write-docs

lock: .venv/development ## resolve the requirements again (needs the registry)
	.venv/bin/pip install --quiet uv
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header --generate-hashes --no-strip-extras --extra pipelines --extra build --extra scale --extra shared --extra dev pyproject.toml -o requirements-dev.lock
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header --generate-hashes --no-strip-extras --extra pipelines --extra build -c requirements-dev.lock pyproject.toml -o requirements.lock

clean: ## remove what the commands made, but ./home: it holds the signing keys
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
