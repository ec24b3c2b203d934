# Searchloop's commands. `make help` lists them.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
PYTHON ?= python3
PLATFORM := envs/platform/.venv/bin/python
STACK := $(PLATFORM) -W ignore -m deploy.stack
.DEFAULT_GOAL := help
.PHONY: help up sources dev down status doctor logs addresses envs lock code-servers code-server train freeze thaw pin unpin promote rollback runs explain lineage reproduce predict search evaluate simulate shell notebook generate new-repo remove-repo test check docs bench clean made needed

# Compiled once and kept: else every process compiles its libraries again, a second of its start for Dagster alone.
unexport PYTHONDONTWRITEBYTECODE
# What the recipes read from the environment, so that no shell ever parses a query.
READ := Q REPO OUT PROCESS SUITE DRILLS FAST SESSIONS TREND DRIFT SEED RATE WATCH SET RELEASE RELEASES FAMILY N FORCE WHY DEPLOYMENT REPOS JSON NAME KIND FRAMEWORK OWNER QUERIES SQL DATABASE COLUMNS K
export $(READ)
$(foreach name,$(filter-out $(READ) UPGRADE PYTHON STACK SEARCHLOOP_%,$(.VARIABLES)),$(if \
	$(filter command,$(origin $(name))),$(error $(name) is read by no command: make help lists what is)))
# What is given as `make search Q='price $5'` is taken as it was typed: make itself would expand the $5.
$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),\
	$(eval override $(name) := $$(value $(name)))$(eval export $(name))))

# `make up REPOS="..."`: the setting, in a word.
ifneq ($(strip $(REPOS)),)
export SEARCHLOOP_REPOS := $(value REPOS)
endif

##> The stack

help: ## Show this help
	@awk -f deploy/help.awk $(MAKEFILE_LIST)

up: sources envs ## Start everything; train where nothing is live yet; end when a search answers [WATCH=1: then as dev]
##|                     [REPOS="<names>": these repositories alone, with their environments; no search]
	@$(STACK) up $${WATCH:+--watch}

# Before the environments, which take minutes the first time.
sources:
	@test -z "$$SEARCHLOOP_SOURCES" || test -f "$$SEARCHLOOP_SOURCES" || { \
		echo "SEARCHLOOP_SOURCES=$$SEARCHLOOP_SOURCES: no such file. Expected a YAML file of sources, as in deploy/sources" >&2; \
		exit 1; }

dev: made ## Reload in the running stack what is saved, where it loads; Ctrl-C ends the watching alone
	@$(STACK) dev

down: made ## End everything that belongs to the stack, and nothing else
	@$(STACK) down

status: made ## Show processes, runs, the live set with its metrics, and what was rejected last and why
	@$(STACK) status

doctor: made ## Examine machine and stack: what is wrong, each with what mends it; fails where anything is [JSON=1]
	@$(STACK) doctor $${JSON:+--json}

logs: made ## Follow the logs, or show their ends where the stack is down [PROCESS=<name>]
	@$(STACK) logs $${PROCESS:+-- "$$PROCESS"}

addresses: made ## Print one `name url` line each: search, dagit, the prediction services, the lineage
	@$(STACK) addresses

clean: made ## Remove the stack's state (it has to be down)
	@$(STACK) clean

##> Models

train: made ## Train all models, or one [REPO=<name>] [FORCE=1: although nothing changed]
##|                     [DEPLOYMENT=dev: on a sample of prod's data, into a staging area of its own]
	@$(STACK) train $${FORCE:+--force} $${DEPLOYMENT:+--deployment="$$DEPLOYMENT"} $${REPO:+-- "$$REPO"}

code-servers: made ## Start the running stack's code servers that do not run, reload the others' code
	@$(STACK) code-servers

code-server: made ## The same for one: REPO=<name>
	@$(STACK) code-server -- "$$REPO"

freeze: made ## Promote nothing until make thaw; trainings go on [WHY="<reason>"]
	@$(STACK) freeze $${WHY:+--why="$$WHY"}

thaw: made ## End the freeze: what was accepted meanwhile is promoted [WHY="<reason>"]
	@$(STACK) thaw $${WHY:+--why="$$WHY"}

pin: made ## Keep a family at its live release, or another: FAMILY=<name> [RELEASE=<version>] [WHY="<reason>"]
	@$(STACK) pin $${WHY:+--why="$$WHY"} $${RELEASE:+--release="$$RELEASE"} -- "$$FAMILY"

unpin: made ## End the pin: FAMILY=<name> [WHY="<reason>"]
	@$(STACK) unpin $${WHY:+--why="$$WHY"} -- "$$FAMILY"

promote: made ## Make a set live by hand: WHY="<reason>" SET=<one taken back> or RELEASES=<ranker>/<version>
	@$(STACK) promote $${WHY:+--why="$$WHY"} $${RELEASES:+--releases="$$RELEASES"} $${SET:+-- "$$SET"}

rollback: made ## Make the set before the present live again, or another one [SET=<n>] [WHY="<reason>"]
	@$(STACK) rollback $${WHY:+--why="$$WHY"} $${SET:+-- "$$SET"}

runs: made ## Show what ran last, why it started, how it ended, and why it failed [N=20]
	@$(STACK) runs $${N:+-- "$$N"}

explain: made ## Say why a release was accepted or rejected, with its numbers: RELEASE=<family>/<version>
	@$(STACK) explain -- "$$RELEASE"

lineage: made ## Print the chain from the sources to the weights of the live set
	@$(STACK) lineage

reproduce: made ## Train a release again and compare the weights: RELEASE=<family>/<version>
	@$(STACK) reproduce -- "$$RELEASE"

predict: made ## Answer a table of queries by the live set: QUERIES=<url> OUT=<folder or url> [K=10]
##|                     [SET=<n>, RELEASE=<family>/<version> or FAMILY=<name>: by that; COLUMNS=<id>,<text>]
##|                     [SQL="SELECT ..." DATABASE=<variable with its url>: in place of QUERIES]
	@$(STACK) predict $${QUERIES:+--queries="$$QUERIES"} $${SQL:+--sql="$$SQL"} $${DATABASE:+--database="$$DATABASE"} \
		$${COLUMNS:+--columns="$$COLUMNS"} $${K:+--k="$$K"} $${RELEASE:+--release="$$RELEASE"} \
		$${FAMILY:+--family="$$FAMILY"} $${SET:+--number="$$SET"} --out="$$OUT"

search: made ## Ask the running search app: Q="<words>"
	@$(STACK) search -- "$$Q"

evaluate: made ## Measure the services on the live snapshot's test queries: OUT=<folder for TREC runs>
	@$(STACK) evaluate -- "$$OUT"

simulate: made ## SIMULATED people search and click
##|                     [SESSIONS=200 SEED=0 RATE=<per second> TREND=<n> DRIFT=<topic> WATCH=1]
	@$(STACK) simulate $${SESSIONS:+--sessions="$$SESSIONS"} $${SEED:+--seed="$$SEED"} $${RATE:+--rate="$$RATE"} \
		$${TREND:+--trend="$$TREND"} $${DRIFT:+--drift="$$DRIFT"} $${WATCH:+--watch}

##> Development

envs: ## Make the environments whose lock has changed (SEARCHLOOP_TORCH=gpu: torch's CUDA build)
	@$(PYTHON) envs/build.py sync $(if $(filter envs,$(MAKECMDGOALS)),--alone) \
		$${SEARCHLOOP_REPOS:+platform search $$SEARCHLOOP_REPOS}

lock: ## Make the locks anew from envs/*/requirements.in [REPO=<name>: one; UPGRADE=1: newest versions]
	@$(PYTHON) envs/build.py lock $(if $(UPGRADE),--upgrade) $${REPO:+"$$REPO"}

generate: made ## Make the files that follow from the list of the repositories, repos/repos.toml
	@$(PLATFORM) -m deploy.generate

shell: ## Start the Python of one repository's environment, which is made where it is not: REPO=<name>
	@$(PYTHON) envs/build.py sync platform
	@$(STACK) shell -- "$$REPO"

notebook: ## Write a script with cells that trains one family's model and compares it: REPO=<name>
	@$(PYTHON) envs/build.py sync platform
	@$(STACK) notebook -- "$$REPO"

new-repo: made ## Write a new repository, its environment and its entry in the list:
##|                     NAME=<name> OWNER=@<org>/<team> [FRAMEWORK=sklearn|torch|tensorflow|none KIND=search|ranker,
##|                     or KIND=data: a source of documents]
	@$(PLATFORM) -m deploy.repositories new --name="$$NAME" --owner="$$OWNER" --kind="$${KIND:-search}" \
		--framework="$${FRAMEWORK:-none}"

remove-repo: made ## Take a repository away again: NAME=<name>
	@$(PLATFORM) -m deploy.repositories remove --name="$$NAME"

check: needed ## Style, types, borders, what is generated, fresh locks, the docs' site, of all or of one [REPO=<name>]
	@$(PLATFORM) -m deploy.checks $${REPO:+-- "$$REPO"}

test: needed ## All checks and tests, each in its own environment, or the tests of one [REPO=<name>]
##|                     [DRILLS=1: the drills too; FAST=1: not the checks, nor what is slow; SUITE=<folder>: one suite]
	@$(PLATFORM) -m deploy.suites $${DRILLS:+--drills} $${FAST:+--fast} $${REPO:+--repository="$$REPO"} \
		$${SUITE:+-- "$$SUITE"}

docs: made ## Build the site of the documents, with the op library's docstrings: build/site/index.html
	@$(PLATFORM) -m sphinx -q -W --keep-going -c docs/site -d build/doctrees . build/site
	@echo "build/site/index.html"

bench: made ## Run the benchmarks in bench/
	@$(PLATFORM) -m deploy.benchmarks

made:
	@$(PYTHON) envs/build.py place platform

# One team needs the platform's environment and its own alone.
needed:
	@$(PYTHON) envs/build.py sync $${REPO:+-- platform "$$REPO"}

##> Settings, as environment variables
##| SEARCHLOOP_HOME=var           where everything lies that running makes
##| SEARCHLOOP_PORT_BASE=7700     the first port; moves them all
##| SEARCHLOOP_HOST=127.0.0.1     the address of it all, which only this machine reaches: or ::1
##| SEARCHLOOP_SOURCES=<path>     what the corpus is made of; deploy/sources/pydocs.yaml if not set
##| SEARCHLOOP_REPOS=<names>      the repositories that the stack runs; all if not set
##| SEARCHLOOP_READ_FROM=<home>   another stack's home to learn from: nothing is written there (CONTRIBUTING.md)
##| SEARCHLOOP_POSTGRES_URL=<url> a Postgres of your own in place of the embedded one
##| SEARCHLOOP_NOTIFY=<urls>      where failures go beside the log: webhooks, mail, chats (docs/failures.md)
##| SEARCHLOOP_FEEDBACK=true      whether searches and clicks are recorded (docs/feedback.md)
##| SEARCHLOOP_GATE_MARGIN=0.02   the loss in nDCG@10 that every gate must rule out (docs/gate.md)
##| SEARCHLOOP_ENOUGH_CLICKS=200  new clicks that start the making of feedback (docs/loop.md)
##| SEARCHLOOP_NIGHTLY_HOUR=2     the hour (UTC) at which the nightly round begins (docs/loop.md)
##| SEARCHLOOP_DRIFT_SEARCHES=300 new searches that make a period to compare for drift (docs/loop.md)
##| SEARCHLOOP_RETENTION_DAYS=180 the age in days at which searches and clicks are deleted
##| SEARCHLOOP_TORCH=cpu          cpu or gpu: which build of torch the ranker gets
