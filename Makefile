# Every command of the repository. `make help` lists them. Whatever is missing on the machine is
# installed first (scripts/prepare.py), so each command works on a bare machine.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

STACK ?= demo
FANS ?= 1000
SEATS ?= 400
PYTHON ?= python3
ARGS ?=
WORKERS ?= 2

PREPARED := $(PYTHON) scripts/prepare.py --
VENV := .venv/bin
MEMBERS := common testkit queue_service concert_service reservation_service payment_service \
           audit identity_provider data_platform local_stack

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "; printf "Usage: make COMMAND [NAME=value]\n\n"} \
	     /^[a-z][a-z-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nSTACK=%s  FANS=%s  SEATS=%s  ARGS=<more for pytest>  WORKERS=%s\n' '$(STACK)' '$(FANS)' '$(SEATS)' '$(WORKERS)'

.PHONY: setup
setup: ## Install what is missing: servers, .venv, members
	@$(PREPARED) true

.PHONY: demo
demo: ## A whole sale: FANS rush SEATS through the gateway; ends with a verdict
	@$(PREPARED) $(VENV)/python -m local_stack.demo --fans $(FANS) --seats $(SEATS)

.PHONY: up
up: ## Start the stack STACK and wait until it is ready
	@$(PREPARED) $(VENV)/python -m local_stack up --stack $(STACK)

.PHONY: down
down: ## Stop the stack STACK; its data are kept
	@$(PREPARED) $(VENV)/python -m local_stack down --stack $(STACK)

.PHONY: status
status: ## What runs in the stack STACK, and where
	@$(PREPARED) $(VENV)/python -m local_stack status --stack $(STACK)

.PHONY: logs
logs: ## Follow the services' logs of the stack STACK
	@$(PREPARED) $(VENV)/python -m local_stack logs --stack $(STACK)

.PHONY: verify
verify: ## Check every invariant on the running stack STACK
	@$(PREPARED) $(VENV)/python -m local_stack.verify --stack $(STACK)

.PHONY: test
test: ## Every test, on real servers of its own
	@$(PREPARED) $(VENV)/python -m pytest -n $(WORKERS) --dist loadgroup --durations=10 $(ARGS)

.PHONY: unit
unit: ## Tests that need no server
	@$(PREPARED) sh scripts/unit.sh $(ARGS)

.PHONY: check
check: ## Format, lint, types, import contracts, unit tests
	@$(PREPARED) sh scripts/check.sh $(MEMBERS)

.PHONY: format
format: ## Format the code and mend what ruff can mend
	@$(PREPARED) sh -c '$(VENV)/ruff check --fix --quiet . ; $(VENV)/ruff format .'

.PHONY: requirements
requirements: ## Compile requirements/*.in again (needs uv)
	@sh scripts/requirements.sh

.PHONY: fresh
fresh: ## Prove the README on a bare Debian in a folder of its own (root)
	@sh scripts/fresh.sh

.PHONY: compat
compat: ## The tests of SQL and broker on MySQL and RabbitMQ of Debian sid (root)
	@$(PREPARED) env WORKERS=$(WORKERS) sh scripts/compat.sh $(ARGS)

.PHONY: clean
clean: ## Stop the stacks of this clone; remove their data, caches and .venv
	@sh scripts/clean.sh
