# `make fuzz`: test/fuzz/fuzz_*.cpp, built with clang's libFuzzer, AddressSanitizer and UBSan, each run for SECONDS.
#
#   make fuzz SECONDS=600 FUZZERS="jpeg png"     these alone, ten minutes each
#   FUZZ_JPEG=FILE                               another libjpeg.a, as one that is built with sanitizers too
#   FUZZ_JOBS=1                                  how many at once; default: one a core
#
# What reads untrusted bytes is compiled anew here with -fsanitize; the rest of the library is that of an ordinary build.

SECONDS := $(if $(filter environment default undefined,$(origin SECONDS)),20,$(SECONDS))
FUZZERS ?= $(patsubst test/fuzz/fuzz_%.cpp,%,$(sort $(wildcard test/fuzz/fuzz_*.cpp)))
FUZZ_CXX ?= clang++
FUZZ_JPEG ?= $(if $(JPEG_HEADER),-l:libjpeg.a)
FUZZ_JOBS ?= $(shell nproc)
FUZZ_OUT := $(BUILD)/fuzz
FUZZ_RUNTIME := $(wildcard $(shell $(FUZZ_CXX) -print-resource-dir 2>/dev/null)/lib/linux/libclang_rt.fuzzer-x86_64.a)

FUZZ_SRC := $(filter data/%,$(LIB_SRC)) host/json.cpp host/cuda/regular_file.cpp host/train/checkpoint.cpp \
            host/train/safetensors.cpp host/train/schedule.cpp host/net/kernel_settings.cpp host/bench/registry.cpp \
            tools/common_cli.cpp tools/train_flags.cpp test/fuzz/filled_memory.cpp
FUZZ_OBJ := $(FUZZ_SRC:%.cpp=$(FUZZ_OUT)/%.o)
# Not what is compiled anew.
FUZZ_REST := $(filter-out $(FUZZ_SRC:%.cpp=$(HOST_OUT)/%.o),$(LIB_OBJ))
# Memory that is written where its variable begins is no fault of what comes later: the stack is filled too.
FUZZ_FLAGS := $(filter-out -fopenmp,$(CXXSTD)) -O1 -g -fno-omit-frame-pointer -ftrivial-auto-var-init=pattern \
              -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -Wall -Wextra -Wno-unknown-pragmas

.PHONY: fuzz fuzz-run
ifneq ($(TARGET),vgpu)
fuzz:
	$(Q)$(MAKE) --no-print-directory TARGET=vgpu fuzz
else ifeq ($(FUZZ_RUNTIME),)
fuzz:
	@echo "fuzz: no clang with libFuzzer here: install clang and libclang-rt-14-dev (Debian 12)" >&2; exit 1
else
fuzz: $(FUZZERS:%=$(FUZZ_OUT)/bin/%) $(FUZZ_OUT)/bin/make_corpus
	$(Q)test/fuzz/run.sh $(FUZZ_OUT) $(SECONDS) $(FUZZ_JOBS) $(FUZZERS)
endif

$(FUZZ_OUT)/%.o: %.cpp $(HOST_STAMP) $(HOST_OUT)/jpeg_flags test/fuzz/fuzz.mk
	@mkdir -p $(@D)
	@echo "  fuzz $<"
	$(Q)$(FUZZ_CXX) $(CPPFLAGS) $(JPEG_FLAGS) $(FUZZ_FLAGS) -MMD -MP -c $< -o $@
$(FUZZ_OUT)/rest.a: $(FUZZ_REST)
	@rm -f $@ && ar rcsT $@ $^
$(FUZZERS:%=$(FUZZ_OUT)/bin/%): $(FUZZ_OUT)/bin/%: $(FUZZ_OUT)/test/fuzz/fuzz_%.o $(FUZZ_OBJ) $(FUZZ_OUT)/rest.a
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CXX) -fsanitize=fuzzer,address,undefined -Wl,--wrap=malloc,--wrap=realloc $(filter-out -fopenmp,$(LDFLAGS)) \
	  $^ $(FUZZ_JPEG) $(LDLIBS) -lgomp -o $@
$(FUZZ_OUT)/bin/make_corpus: test/fuzz/make_corpus.cpp test/data_files.h test/jpeg_bytes.h
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(JPEG_FLAGS) $(CXXSTD) -g1 $(WARN) -Wno-unused-parameter $< $(LDFLAGS) $(JPEG_LIBS) -lz -o $@
-include $(FUZZ_OBJ:.o=.d) $(FUZZERS:%=$(FUZZ_OUT)/test/fuzz/fuzz_%.d)
