# kafka_pg: a Postgres server that is a Kafka broker.
#
# This file needs nothing but GNU make and git, so that "make quickstart" and "make check" work on
# a machine where Postgres is still to be installed. What needs Postgres' own build rules (PGXS)
# is in build.mk; these targets are handed on to it with the variables of the command line:
#
#	make && make install            build, and install into the server that PG_CONFIG names
#	make PG_CONFIG=/path/pg_config  the same for another server
#
# Targets for people:
#
#	make quickstart     everything from packages to a running broker, with a round trip (as root)
#	make stop | start   the quickstart's server
#	make psql           a session in the quickstart's database
#	make check          every test, in clusters of its own
#	make unit | lint    parts of it that need no server
#	make fuzz           a short run of each fuzzer, built with sanitizers
#	make sanitize       make check with the undefined behaviour sanitizer in the module
#	make bench          speed beside Apache Kafka's, every cell; CELL=produce-1k and ROUNDS=1 for less
#	make indent         pg_bsd_indent over the sources

SHELL = /bin/sh

# Each goal is a make of its own: two at once would both write an object that both lack. Either of
# them still compiles as much at a time as -j says.
.NOTPARALLEL:

BUILD = $(MAKE) --no-print-directory -f build.mk

all install uninstall installdirs generated unit-programs fuzz-programs:
	+@$(BUILD) $@

clean distclean maintainer-clean:
	+@$(BUILD) $@

quickstart:
	@test/quickstart/quickstart

start stop psql:
	@test/quickstart/$@

# An installation of its own is what is checked, so both names mean the same.
check installcheck:
	@test/check

unit: unit-programs
	@prove --failures --exec '' build/unit

lint:
	@test/lint/run

fuzz:
	@test/fuzz/run

sanitize:
	@test/sanitize

bench:
	@test/bench/run $(if $(CELL),--cells $(CELL)) $(if $(ROUNDS),--rounds $(ROUNDS))

indent:
	@test/lint/indent

.PHONY: all install uninstall installdirs generated unit-programs fuzz-programs \
	clean distclean maintainer-clean quickstart start stop psql check unit lint fuzz sanitize indent
.DEFAULT_GOAL := all
