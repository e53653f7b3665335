# The part of the build that needs Postgres (PGXS). Called by Makefile; see there.

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

EXTENSION = kafka_pg
MODULE_big = kafka_pg
DATA = $(wildcard sql/kafka_pg--*.sql)
PGFILEDESC = "kafka_pg - a Kafka broker inside Postgres"

# Every C file under src is part of the module; generated ones are named by wire.mk, because a
# wildcard cannot see a file that is still to be made.
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c) $(GENERATED_C)))
-include src/wire/wire.mk

# Modules that compile without the server: unit tests and fuzzers link these alone.
PURE_OBJS = $(filter src/batch/% src/wire/% src/group/% src/topic/kpartitioner.o \
	src/txn/kproducer_state.o, $(OBJS))
PURE_LIBS = -lz -llz4 -lsnappy -lzstd -lisal

# The server's headers are named as system headers so that warnings are about our code.
# Warnings switched off: parameters that a callback's type forces on us, and C99 declarations.
PG_CPPFLAGS = -Isrc -isystem $(shell $(PG_CONFIG) --includedir-server) -MMD -MP
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Wno-declaration-after-statement \
	$(if $(WERROR),-Werror) $(if $(SANITIZE),$(SANITIZE_FLAGS))
SHLIB_LINK = $(PURE_LIBS) $(if $(SANITIZE),$(SANITIZE_FLAGS))

# For "make sanitize". Not the address sanitizer: a server built without it hangs when its library
# is loaded first. The fuzzers have it.
SANITIZE_FLAGS = -fsanitize=undefined -fno-sanitize-recover=undefined -fno-sanitize=alignment

# Our code is not inlined into queries: no LLVM bitcode, and so no clang to build.
override with_llvm = no

EXTRA_CLEAN = build $(OBJS:.o=.d) $(GENERATED_C) $(GENERATED_H)

.DEFAULT_GOAL := all

ifneq ($(PGXS),)
include $(PGXS)
else
all install uninstall installdirs generated unit-programs fuzz-programs:
	@echo "make: no Postgres build files found through \"$(PG_CONFIG)\": install them (Debian:" >&2
	@echo "postgresql-server-dev-15) or set PG_CONFIG; \"make quickstart\" installs all it needs." >&2
	@exit 1
clean distclean maintainer-clean:
	rm -rf $(EXTRA_CLEAN) $(OBJS) $(MODULE_big).so
endif

-include $(OBJS:.o=.d)

# A file compiled before the generated headers exist would not find them.
$(OBJS): | $(GENERATED_H)
generated: $(GENERATED_C) $(GENERATED_H)

# Unit tests: one program a file, printing TAP.
# What c.h puts in the place of printf is in libpgport: in pkglibdir (Debian), or in libdir.
TEST_LIBS = $(PURE_LIBS) -L$(pkglibdir) -L$(libdir) -lpgport
UNIT_SRC = $(sort $(wildcard test/unit/*.c))
UNIT_PROGRAMS = $(UNIT_SRC:test/unit/%.c=build/unit/%.t)

# Modules that a test loads into its server to call one of ours without those above it.
TEST_MODULES = $(patsubst test/%.c,build/%.so,$(sort $(wildcard test/log/*.c test/crash/*.c)))

# What the tests run against a server besides clients.
FIRE = build/fuzz/fire

unit-programs: $(UNIT_PROGRAMS) $(TEST_MODULES) $(FIRE)

build/unit/%.t: test/unit/%.c $(PURE_OBJS)
	@mkdir -p build/unit
	$(CC) $(CPPFLAGS) $(CFLAGS) -Itest/unit -MF $(@:.t=.d) -o $@ $< $(PURE_OBJS) $(TEST_LIBS)

-include $(UNIT_PROGRAMS:.t=.d)

build/%.so: test/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_SL) -shared -MF $(@:.so=.d) -o $@ $<

-include $(TEST_MODULES:.so=.d)

# What a suite of clients needs of our own modules.
CLIENT_PROGRAMS = $(patsubst test/%.c,build/%,$(sort $(wildcard test/clients/*/*.c)))

client-programs: $(CLIENT_PROGRAMS)

build/clients/%: test/clients/%.c $(PURE_OBJS)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -Itest/unit -MF $@.d -o $@ $< $(PURE_OBJS) $(TEST_LIBS)

-include $(CLIENT_PROGRAMS:=.d)

$(FIRE): test/fuzz/fire.c $(PURE_OBJS)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MF $@.d -o $@ $< $(PURE_OBJS) $(TEST_LIBS)

-include $(FIRE:=.d)

# Fuzzers: each test/fuzz/fuzz_*.c is a program. It is linked with what it needs of our sources,
# compiled anew with clang's sanitizers and the server's assertions, and of test/fuzz/fake, which
# takes the server's place. -fno-sanitize-recover: undefined behaviour is a crash too.
FUZZ_CC = clang
FUZZ_FLAGS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1 -std=gnu11 \
	-fwrapv -fno-strict-aliasing -Wno-ignored-attributes -DUSE_ASSERT_CHECKING=1
FUZZ_SRC = $(sort $(foreach m,api batch group log net txn wire,$(wildcard src/$m/*.c)) \
	$(GENERATED_C) src/topic/kpartitioner.c src/topic/ktopic_config.c src/sql/ksql_value.c)
FUZZ_OBJS = $(FUZZ_SRC:%.c=build/fuzz/%.o)
FUZZ_FAKE = $(patsubst %.c,build/fuzz/%.o,$(sort $(wildcard test/fuzz/fake/*.c)))
FUZZ_PROGRAMS = $(patsubst test/fuzz/%.c,build/fuzz/%,$(sort $(wildcard test/fuzz/fuzz_*.c)))
# System calls that a fuzzer answers itself.
FUZZ_WRAP = accept4 clock_gettime close epoll_create1 epoll_ctl epoll_wait getsockname readv \
	sendmsg setsockopt

fuzz-programs: $(FUZZ_PROGRAMS)

build/fuzz/src/%.o: src/%.c | $(GENERATED_H)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link $(CPPFLAGS) -MF $(@:.o=.d) -c -o $@ $<

build/fuzz/test/%.o: test/%.c | $(GENERATED_H)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -Itest/unit -Itest/fuzz/fake $(CPPFLAGS) -MF $(@:.o=.d) -c -o $@ $<

build/fuzz/ours.a: $(FUZZ_OBJS)
	@rm -f $@
	$(AR) crs $@ $^

build/fuzz/fake.a: $(FUZZ_FAKE)
	@rm -f $@
	$(AR) crs $@ $^

build/fuzz/fuzz_broker: FUZZ_LDFLAGS = $(FUZZ_WRAP:%=-Wl,--wrap=%)

build/fuzz/fuzz_%: build/fuzz/test/fuzz/fuzz_%.o build/fuzz/ours.a build/fuzz/fake.a
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer $(FUZZ_LDFLAGS) -o $@ $< -Wl,--start-group \
		build/fuzz/fake.a build/fuzz/ours.a -Wl,--end-group $(TEST_LIBS) -lpgcommon -lpgport -lm

FUZZ_MAIN = $(FUZZ_PROGRAMS:build/fuzz/%=build/fuzz/test/fuzz/%.o)

-include $(FUZZ_OBJS:.o=.d) $(FUZZ_FAKE:.o=.d) $(FUZZ_MAIN:.o=.d)

.SECONDARY: $(FUZZ_MAIN)
.PHONY: generated unit-programs client-programs fuzz-programs
