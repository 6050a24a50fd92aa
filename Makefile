# Two words do all the set-up on a fresh machine: `make demo` runs the main job, `make test` passes the tests.
.PHONY: demo test hw-test check bench docs setup clean

BIN := .venv/bin
# Half as many again as there are processors: tests on pcscd and on other programs mostly wait for them.
WORKERS ?= $(shell n=$$(( ($$(nproc) * 3 + 1) / 2 )); echo $$(( n > 8 ? 8 : n )))

demo: ## See a card sign-in on the real PC/SC daemon, no hardware needed
	@scripts/setup demo
	@$(BIN)/tokenbridge demo $(ARGS)

test: ## All tests, the ones on pcscd and with foreign tools included
	@scripts/setup test
	$(BIN)/pytest -n $(WORKERS) $(ARGS)

hw-test: ## Security keys on a kernel of their own (QEMU): /dev/uhid, udev, foreign tools, a browser; ARGS chooses
	@scripts/setup vm
	$(BIN)/python -m scripts.vm run -- env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/pytest -p pytest_timeout \
		-p no:cacheprovider -o testpaths='hw-tests/keys hw-tests/sign_in/test_keys.py' -m 'not slow_under_emulation' \
		--rig-must-run --durations=5 $(ARGS)

check: ## Lint, types, import rule, generated files
	@scripts/setup test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate --check

bench: ## The numbers, beside OpenSC's on the same card
	@scripts/setup test
	$(BIN)/python -m benchmarks

docs: ## Write the generated pages anew
	@scripts/setup test
	$(BIN)/python scripts/generate

setup: ## Only the set-up
	@scripts/setup test

clean: ## Remove what was made here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
