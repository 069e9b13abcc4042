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
PREFIX = /usr/local
DESTDIR =
VERSION = $(shell sed -n 's/^\#define SSM_VERSION_STRING "\(.*\)"/\1/p' ssm.h)

TEST_FILES = tests/ssm_test.c $(wildcard tests/*.h tests/test_*.c tests/golden/*.h)
EXAMPLES = $(patsubst examples/%.c,build/%,$(wildcard examples/*.c)) $(CXX_EXAMPLES)
# None where there is no C++ compiler.
CXX_EXAMPLES = $(if $(shell command -v $(CXX)),$(patsubst examples/cpp/%.cpp,build/%,$(wildcard examples/cpp/*.cpp)))
RUNNER = sh tests/check_runner.sh
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
THREADS = -O1 -g -DSSM_NO_AVX512 -DSSM_TEST_PTHREADS -fsanitize=thread -pthread
# Knows what AVX2's instructions do with values that nobody has set, not what AVX-512's do.
MEMORY = -O1 -g -DSSM_NO_AVX512 -fsanitize=memory -fno-sanitize-recover=all

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
	@echo "make bits         what every verb computes, hashed, on each instruction set of this machine"
	@echo "make test-double  the tests with SSM_DOUBLE"
	@echo "make test-isas    the tests on each instruction set of this machine (a minute)"
	@echo "make examples     build every example: memory, irregular, forecast (seconds each), speaker, stream (C++)"
	@echo "make shared       build/libssm.so (.dylib, .dll) for other languages; shared-double: libssm_double.so"
	@echo "make firmware     the speaker model on microcontrollers, under QEMU (about 3 min)"
	@echo "make web          the page of examples/web as one file, build/web/index.html (needs clang and lld)"
	@echo "make check-web    that page's numbers, in node and headless Chromium, against a native build"
	@echo "make bench        time the kernels against plain loops, train from 5 seeds (about 4 min)"
	@echo "make test-cuda    ops and layers on a GPU against those on the CPU; bench-cuda: their time (nvcc and a GPU)"
	@echo "make size         flash that each verb takes on each core, and RAM of one step"
	@echo "make firmware-bench  instructions, RAM and stack of one step on each core"
	@echo "make check        what CI runs after the tests: compilers, standards, symbols, sanitizers"
	@echo "make fuzz         random and hostile inputs, with libFuzzer where clang has it (SECONDS=60 for each program)"
	@echo "make mutate       break ssm.h in one place after another and see which tests notice (COUNT=200 SEED=1 JOBS=2)"
	@echo "make check-targets      other processors, systems and compilers, as far as installed (about 5 min)"
	@echo "make check-targets-all  more of them, and no test left out (about an hour)"
	@echo "make install      ssm.h and ssm.pc (for pkg-config) below PREFIX=/usr/local, DESTDIR= before it; uninstall"
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

build/bits: tests/bits.c ssm.h build/flags
	$(CC) $(CFLAGS) tests/bits.c -o $@

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

# One hash for each instruction set; fails if two of one family differ.
bits: build/bits
	build/bits

test-double: build/ssm_test_double
	build/ssm_test_double

# One job for each instruction set of this machine. LAST=no leaves out the last one, which is what `make test` chose.
LAST = yes
test-isas: build/ssm_test
	@build/ssm_test --isas | sed $(if $(filter no,$(LAST)),-e '$$d') -e 's|.*|&: build/ssm_test --isa &|' | tr '\n' '\0' | \
	    TALLY_JOBS=$(JOBS) xargs -0 sh tests/tally.sh

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

# These two need nvcc and a GPU; without one, `make check` runs the same kernels on an emulator.
NVCC = nvcc
NVCCFLAGS = -std=c++17 -arch=native -O3

build/test_cuda: tests/test_cuda.cu $(wildcard tests/cuda_*.h) ssm.h
	@mkdir -p build
	$(NVCC) $(NVCCFLAGS) -I. tests/test_cuda.cu -o $@

build/bench_cuda: bench/bench_cuda.cu $(wildcard bench/cuda_*.h) ssm.h
	@mkdir -p build
	$(NVCC) $(NVCCFLAGS) -I. bench/bench_cuda.cu -o $@

test-cuda: build/test_cuda
	build/test_cuda

bench-cuda: build/bench_cuda
	build/bench_cuda

# These three need cross compilers and QEMU: they name the packages that they miss.
firmware:
	@CC='$(CC)' sh examples/firmware/run.sh

size:
	@sh bench/size.sh
	@echo && echo "With SSM_ONLY_EULER, SSM_ONLY_REAL and SSM_TILE_ROWS 1:" && sh bench/size.sh --small && echo
	@sh bench/firmware.sh --ram

firmware-bench:
	@CC='$(CC)' sh bench/firmware.sh

# Not `test` itself: CI runs that first. Each runner is a compiler, a level, a precision or a tile size that no other has:
# two of them in one where they have nothing to do with each other. Each line is one job; "name: job" labels its
# results. The longest comes first.
check:
	@JOBS=$(JOBS) TALLY_JOBS=$(JOBS) sh tests/tally.sh \
	    'sh tests/check_cuda.sh' \
	    'sh tests/check_firmware.sh' \
	    'sh tests/check_compile.sh' \
	    'sh tests/check_link.sh' \
	    'sh tests/check_self.sh' \
	    'python3 tests/check_kernels.py' \
	    'sh tests/check_examples.sh' \
	    'sh tests/check_cpp.sh' \
	    'sh tests/check_python.sh' \
	    'sh tests/check_web.sh' \
	    'clang, tiles 7: $(RUNNER) clang "-O2 -DSSM_TILE_ROWS=7 -DSSM_ALIGN=128"' \
	    'O3, tiles 3: $(RUNNER) gcc "-O3 -DSSM_NO_AVX512 -DSSM_TILE_ROWS=3 -DSSM_ALIGN=16"' \
	    '$(MAKE) -s test-isas LAST=no JOBS=1' \
	    'double, openmp: $(RUNNER) gcc "-O2 -DSSM_DOUBLE -fopenmp" "env OMP_NUM_THREADS=3 OMP_WAIT_POLICY=passive"' \
	    'threads: $(RUNNER) gcc "$(THREADS)" env parallel threads' \
	    'memory: $(RUNNER) clang "$(MEMORY)"' \
	    'sanitized: $(RUNNER) gcc "$(SANITIZE)"' \
	    'sanitized double: $(RUNNER) clang "$(SANITIZE) -DSSM_DOUBLE"' \
	    'sh tests/check_fuzz.sh gcc "$(SANITIZE)" layers' \
	    'sh tests/check_fuzz.sh gcc "$(SANITIZE)" ops' \
	    'sh tests/check_fuzz.sh gcc "$(SANITIZE) -DSSM_NO_SIMD" attach' \
	    '32 bits: sh tests/check_fuzz.sh gcc "$(SANITIZE) -m32 -msse2 -mfpmath=sse -DSSM_NO_SIMD" sizes'

# Each for SECONDS; what libFuzzer finds and learns stays in build/fuzz.
SECONDS = 60
fuzz:
	@CC='$(CC)' sh tests/tally.sh 'sh tests/fuzz.sh $(SECONDS)'

# COUNT places, drawn by SEED; survivors are printed. About two seconds of processor time for each, and a minute before the first.
COUNT = 200
SEED = 1
mutate:
	python3 tests/mutate.py --compiler '$(CC)' --count $(COUNT) --seed $(SEED) --jobs $(JOBS)

check-targets:
	@JOBS=$(JOBS) CC='$(CC)' sh tests/tally.sh 'sh tests/check_targets.sh'

check-targets-all:
	@JOBS=$(JOBS) CC='$(CC)' sh tests/tally.sh 'sh tests/check_targets.sh all'

# The header and a file for pkg-config. There is nothing to link.
install:
	mkdir -p '$(DESTDIR)$(PREFIX)/include' '$(DESTDIR)$(PREFIX)/share/pkgconfig'
	cp ssm.h '$(DESTDIR)$(PREFIX)/include/ssm.h'
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: ssm' 'Description: state space models in one C header' \
	    'Version: $(VERSION)' 'Cflags: -I$${prefix}/include' > '$(DESTDIR)$(PREFIX)/share/pkgconfig/ssm.pc'

uninstall:
	rm -f '$(DESTDIR)$(PREFIX)/include/ssm.h' '$(DESTDIR)$(PREFIX)/share/pkgconfig/ssm.pc'

clean:
	rm -rf build

FORCE:

.PHONY: help test-cuda bench-cuda run test bits test-double test-isas examples firmware bench size firmware-bench web check-web shared shared-double install uninstall check check-targets check-targets-all fuzz mutate clean FORCE
