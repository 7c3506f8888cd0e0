# Builds the extension with PGXS.  The install script is assembled from the
# parts in src/schema, in the order of SCHEMA_PARTS.
EXTENSION = persistomata
EXTVERSION = 0.1
MODULE_big = persistomata

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))

SCHEMA_PARTS = prelude types machine fsm event transition history scaffold sink route stat metrics reconcile grants
DATA_built = $(EXTENSION)--$(EXTVERSION).sql

REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=$(EXTENSION)

PG_CONFIG ?= pg_config
# The server's headers are not ours to mend: -isystem keeps their warnings out.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) -isystem $(shell $(PG_CONFIG) --includedir) -I$(CURDIR)/src
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter
SHLIB_LINK = $(libpq) -lz -lzstd -lssl -lcrypto -lcurl -lhiredis -lrabbitmq

EXTRA_CLEAN = $(EXTENSION)--$(EXTVERSION).sql output_iso tmp_check

PGXS := $(shell $(PG_CONFIG) --pgxs)
# No bitcode: nothing here gains from being inlined into a query.
override with_llvm := no
include $(PGXS)

$(EXTENSION)--$(EXTVERSION).sql: $(SCHEMA_PARTS:%=src/schema/%.sql)
	cat $^ > $@

$(OBJS): $(wildcard src/*/*.h)

.PHONY: check-includes
check-includes:
	test/check_includes.sh
