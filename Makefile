# ssm.h needs no build: copy the file. This builds what is around it, all of it under build/.
#   make CC=clang test      another compiler
#   make CFLAGS=-O3 bench   other flags
# No warning is an error here, so that a new compiler's opinion stops nobody; `make check` is strict.

CC = cc
CFLAGS = -O2 -std=c99 -ffp-contract=off
CXX = c++
CXXFLAGS = -O2 -std=c++17 -ffp-contract=off
LDLIBS = -lm
JOBS = 2

TEST_FILES = tests/ssm_test.c $(wildcard tests/*.h tests/test_*.c tests/golden/*.h)
EXAMPLES = $(patsubst examples/%.c,build/%,$(wildcard examples/*.c)) $(CXX_EXAMPLES)
# None where there is no C++ compiler.
CXX_EXAMPLES = $(if $(shell command -v $(CXX)),$(patsubst examples/cpp/%.cpp,build/%,$(wildcard examples/cpp/*.cpp)))
RUNNER = sh tests/check_runner.sh
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
THREADS = -O1 -g -DSSM_TEST_PTHREADS -fsanitize=thread -pthread
VALGRIND = valgrind -q --error-exitcode=9 --leak-check=full
# What valgrind gets through in a few minutes; the sanitizers run everything.
VALGRIND_TESTS = ops/ gradients/ train/ golden s4/ s5/ hippo/ scan/laws scan/gradients scan/errors layers/step layers/packed layers/batch layers/oracle layers/record \
    layers/in_place layers/no_state layers/parallel layers/gradients_added \
    bound/attach bound/linear bound/bytes bound/unknown_format

# As printed in examples/web/layer.c. The module is built anew only where clang and its linker are.
WASM = clang --target=wasm32 -mbulk-memory -std=c99 -Os -ffp-contract=off -ffreestanding -nostdlib \
    -Wl,--no-entry -Wl,--strip-all
WEB_TOOLS = $(shell command -v clang > /dev/null && command -v wasm-ld > /dev/null && echo yes)
WEB_MODULE = $(if $(WEB_TOOLS),build/web/module.js,examples/web/module.js)

# A shared library is one command: what is not static in ssm.h is its interface, so nothing needs hiding.
MACHINE = $(shell $(CC) -dumpmachine 2> /dev/null)
WINDOWS = $(findstring mingw,$(MACHINE))$(findstring windows,$(MACHINE))
LIBRARY = build/$(if $(WINDOWS),ssm,libssm)
LIBRARY_TYPE = $(if $(WINDOWS),dll,$(if $(findstring darwin,$(MACHINE)),dylib,so))
SHARED = $(if $(WINDOWS),,-fPIC) -shared -DSSM_IMPLEMENTATION -x c ssm.h

help:
	@echo "make run          train and stream the speaker example (about 10 s)"
	@echo "make test         the tests, the quick start and the header's own map"
	@echo "make test-double  the tests with SSM_DOUBLE"
	@echo "make examples     build every example: memory, irregular, forecast (seconds each), speaker, stream (C++)"
	@echo "make shared       build/libssm.so (.dylib, .dll) for other languages; shared-double: libssm_double.so"
	@echo "make firmware     the speaker model on microcontrollers, under QEMU (about 3 min)"
	@echo "make web          the page of examples/web as one file, build/web/index.html (needs clang and lld)"
	@echo "make check-web    that page's numbers, in node and headless Chromium, against a native build"
	@echo "make bench        time the kernels against plain loops, train from 5 seeds (about 4 min)"
	@echo "make size         flash that each verb takes on each core, and RAM of one step"
	@echo "make firmware-bench  instructions, RAM and stack of one step on each core"
	@echo "make check        what CI runs after the tests: compilers, standards, symbols, sanitizers"
	@echo "make check-targets      other processors, systems and compilers, as far as installed (about 5 min)"
	@echo "make check-targets-all  more of them, and no test left out (about an hour)"
	@echo "make clean        remove build/"

# ---- what is built -----------------------------------------------------------------------

# Changes whenever compiler or flags do, so that `make test CC=clang` builds anew.
build/flags: FORCE
	@mkdir -p build
	@echo '$(CC) $(CFLAGS) $(CXX) $(CXXFLAGS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS) $(CXX) $(CXXFLAGS)' > $@

build/ssm_test: $(TEST_FILES) ssm.h build/flags
	$(CC) $(CFLAGS) tests/ssm_test.c -o $@ $(LDLIBS)

build/ssm_test_double: $(TEST_FILES) ssm.h build/flags
	$(CC) $(CFLAGS) -DSSM_DOUBLE tests/ssm_test.c -o $@ $(LDLIBS)

build/bench build/scans build/forms: build/%: bench/%.c ssm.h build/flags
	$(CC) $(CFLAGS) -DBENCH_FLAGS='"$(CFLAGS)"' $< -o $@ $(LDLIBS)

# Left out where the compiler has no OpenMP.
build/scans_openmp: bench/scans.c ssm.h build/flags
	-$(CC) $(CFLAGS) -fopenmp bench/scans.c -o $@ $(LDLIBS)

build/%: examples/%.c ssm.h build/flags
	$(CC) $(CFLAGS) $< -o $@ $(LDLIBS)

build/%: examples/cpp/%.cpp ssm.h build/flags
	$(CXX) $(CXXFLAGS) $< -o $@

shared: $(LIBRARY).$(LIBRARY_TYPE)

shared-double: $(LIBRARY)_double.$(LIBRARY_TYPE)

$(LIBRARY).$(LIBRARY_TYPE): ssm.h build/flags
	$(CC) $(CFLAGS) $(SHARED) -o $@

$(LIBRARY)_double.$(LIBRARY_TYPE): ssm.h build/flags
	$(CC) $(CFLAGS) -DSSM_DOUBLE $(SHARED) -o $@

# ---- what is run -------------------------------------------------------------------------

run: build/speaker
	build/speaker

test: build/ssm_test
	@CC='$(CC)' sh tests/tally.sh 'sh tests/check_header.sh' 'build/ssm_test'

test-double: build/ssm_test_double
	build/ssm_test_double

examples: $(EXAMPLES)

# One clang command, then the page with its module inside. Without clang and lld the page is the
# committed one, which is the same but for the module's age.
web: build/web/index.html
	@echo 'open build/web/index.html'

build/web/layer.wasm: examples/web/layer.c ssm.h
	@mkdir -p build/web
	$(WASM) -o $@ $<

build/web/module.js: build/web/layer.wasm
	@{ printf 'const MODULE = "'; base64 $< | tr -d '\n'; printf '";\n'; } > $@

build/web/index.html: examples/web/index.html $(WEB_MODULE)
	@mkdir -p build/web
	@[ -n '$(WEB_TOOLS)' ] || echo 'make web: clang or wasm-ld (package lld) is missing: with the module as committed'
	awk '/^<script src="module.js">/ { print "<script>"; while ((getline line < "$(WEB_MODULE)") > 0) print line; \
	    print "</script>"; next } { print }' $< > $@

check-web:
	@sh tests/tally.sh 'sh tests/check_web.sh'

bench: build/bench build/scans build/scans_openmp build/forms build/speaker
	build/bench
	build/scans
	-OMP_NUM_THREADS=2 build/scans_openmp
	build/forms
	build/speaker --seeds 5

# These three need cross compilers and QEMU: they name the packages that they miss.
firmware:
	@CC='$(CC)' sh examples/firmware/run.sh

size:
	@sh bench/size.sh
	@echo && echo "With SSM_ONLY_EULER, SSM_ONLY_REAL and SSM_TILE_ROWS 1:" && sh bench/size.sh --small && echo
	@sh bench/firmware.sh --ram

firmware-bench:
	@CC='$(CC)' sh bench/firmware.sh

# Not `test` itself: CI runs that first. Each line is one job; "name: job" labels its results.
check:
	@JOBS=$(JOBS) TALLY_JOBS=$(JOBS) sh tests/tally.sh \
	    'sh tests/check_compile.sh' \
	    'sh tests/check_link.sh' \
	    'sh tests/check_examples.sh' \
	    'sh tests/check_cpp.sh' \
	    'sh tests/check_python.sh' \
	    'sh tests/check_firmware.sh' \
	    'sh tests/check_web.sh' \
	    'clang: $(RUNNER) clang "-O2"' \
	    'O3: $(RUNNER) gcc "-O3"' \
	    'double: $(RUNNER) gcc "-O2 -DSSM_DOUBLE"' \
	    'openmp: $(RUNNER) gcc "-O2 -fopenmp" "env OMP_NUM_THREADS=3 OMP_WAIT_POLICY=passive"' \
	    'threads: $(RUNNER) gcc "$(THREADS)" env parallel threads' \
	    'sanitized: $(RUNNER) gcc "$(SANITIZE)"' \
	    'sanitized double: $(RUNNER) clang "$(SANITIZE) -DSSM_DOUBLE"' \
	    'valgrind: $(RUNNER) gcc "-O1 -g" "$(VALGRIND)" $(VALGRIND_TESTS)'

check-targets:
	@JOBS=$(JOBS) CC='$(CC)' sh tests/tally.sh 'sh tests/check_targets.sh'

check-targets-all:
	@JOBS=$(JOBS) CC='$(CC)' sh tests/tally.sh 'sh tests/check_targets.sh all'

clean:
	rm -rf build

FORCE:

.PHONY: help run test test-double examples firmware bench size firmware-bench web check-web shared shared-double check check-targets check-targets-all clean FORCE
