# Two commands do all set-up: `make demo` shows Lookback, `make test` proves it.
.PHONY: demo test check bench soak build viewer

VIEWER := web/dist/.built

## demo: builds the viewer and the server, starts both with three demo cameras, prints one URL
demo: build
	target/release/lookback demo

## test: everything that CI holds the project to
test:
	.ci/test

## check: format, lints, generated files, house rules
check:
	.ci/check

## bench: the figures, each beside its peer
bench: build
	.ci/bench

## soak: the long runs of which `make test` does a tenth
soak:
	LOOKBACK_SOAK=1 .ci/test
	.ci/image

build:
	.ci/need build
	$(MAKE) --no-print-directory viewer
	cargo build --release --bin lookback

viewer:
	@if .ci/need viewer; then $(MAKE) --no-print-directory $(VIEWER); fi

web/node_modules/.installed: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

$(VIEWER): web/node_modules/.installed schema.graphql $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -type f -print 2>/dev/null)
	cd web && npm run build
	@touch $@
