# weirdtrick. `make run` trains, `make test` tests; both do all the set-up. See README.md.
#
#   make            all programs, into bin/
#   make run        trains mini on Fashion-MNIST on two (virtual) GPUs; RUN="--net cifar ..." passes flags to bin/train
#   make test       builds and runs the tests          T="-tc=conv*" passes options to the runner
#   make deps       installs the libraries (apt, or into build/deps without root)
#   make gpu-report    on a machine with a GPU: everything measured, into profiling/results/   REPORT=--quick|--dry
#   make claims        the papers' claims, measured and said to hold or not; make claim-NAME: one   DATA=folder:DIR FULL=1 (profiling/claims)
#   make results       README.md's table from profiling/results/
#   make sass          registers, spills and instructions of the kernels, checked; needs nvcc and a disassembler
#   make ptx-faults PTX=1  are faults in the assembly of kernels/ptx/ seen, one at a time?   FAULTS="-k mma" some of them
#   make ptx-rate PTX=1    PTX instructions a second and core that virtual GPUs execute
#   make compile-times CPU seconds that the compiler took for each file
#   make fuzz          every reader of files and flags with random input, SECONDS=20 each; needs clang's libFuzzer (test/fuzz/README.md)
#   make format        the C++ sources as .clang-format says, which CI checks; needs clang-format 14
#   make decode-rate FILES="a.jpg ..."  images/s a core of each decoder
#   make loader-rate DATA=records:DIR   images/s a core that the loader gives, beside memcpy; COLD=1 from the disk
#   make clean
#   make help          these lines
#
#   TARGET=cuda|vgpu   real or virtual GPUs            default: cuda where there are nvcc and a GPU
#   ARCHS="80 90"      real GPU architectures; *_sm90.cu are always built for sm_90a
#   PREFIX=DIR         where libraries were unpacked   default: build/deps
#   SAN=1              AddressSanitizer and UBSan for all but the kernels (vgpu)
#   RACES=1            for the kernels: races, missing fences, bounds, and UBSan (vgpu)
#   PTX=1              kernels as nvcc compiles them, their PTX translated to C++ (vgpu, needs nvcc); PTX_ARCH=80|90|80+90;
#                      bin/compare --counters then counts what they do
#                      KEEP_PTX=DIR of TARGET=cuda keeps the PTX that it makes; PTX_FROM=DIR takes it from there
#   BUILD=DIR          where objects go                default: build
#   NO_MPI=1           without MPI, even where it is (bin/train --comm mpi is then refused)
#   NO_TURBO=1         without libjpeg-turbo, even where it is (stb_image then decodes JPEG too)
#   OPT=-O3            what g++ does to code that computes on a CPU; HOST_OPT and EMULATED_OPT: see "flags" below
#   PCH=               without precompiled headers
#   -j N               so many compilers at once       default: one a core, as far as 1 GiB of memory is free for each
#   V=1                shows the commands

.DEFAULT_GOAL := all
SHELL := /bin/bash
BUILD  ?= build
PREFIX ?= $(BUILD)/deps
ARCHS  ?= 80 90
SAN    ?=
RACES  ?=
PTX    ?=
PTX_ARCH ?= 90
KEEP_PTX ?=
PTX_FROM ?=
PCH    ?= 1
Q      := $(if $(V),,@)

# make splits what it is given at blanks, and so do some of the tools that it calls.
ifneq ($(words $(CURDIR)),1)
  $(error the folder '$(CURDIR)' has a blank in its name, which make cannot build in: move the tree to one without)
endif

# All cores, unless -j was given, in MAKEFLAGS or on the command line (where make 4.3 shows it to nobody but /proc), or
# another make has called this one.
JOBS_GIVEN := $(shell { echo " $$MAKEFLAGS" | grep -oE '^ -?[a-zA-Z]*j| -[a-zA-Z]*j| --jobs'; \
                tr '\0' ' ' </proc/$$PPID/cmdline | grep -oE ' (-[a-zA-Z]*j|--jobs)'; } | head -n1)
ifeq ($(MAKELEVEL)$(JOBS_GIVEN),0)
  CORES := $(shell env -u OMP_NUM_THREADS nproc)
  MAKEFLAGS += -j$(shell awk -v n=$(CORES) '/^MemAvailable/ {m = int($$2 / 1048576)} END {print m < 1 ? 1 : m < n ? m : n}' /proc/meminfo)
endif

# ---- what is here ---------------------------------------------------------------------------
NVCC ?= $(or $(shell command -v nvcc),$(wildcard /usr/local/cuda/bin/nvcc))
GPU  := $(shell nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n1)
ifndef TARGET
  ifneq ($(and $(NVCC),$(GPU)),)
    TARGET := cuda
    WHY := nvcc and a GPU are here
  else
    TARGET := vgpu
    WHY := $(if $(NVCC),no GPU,no nvcc) here
  endif
else
  WHY := asked for
endif
NVCC_VERSION := $(or $(if $(NVCC),$(shell $(NVCC) --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')),none)
ifeq ($(filter $(TARGET),cuda vgpu),)
  $(error unknown TARGET '$(TARGET)': must be cuda or vgpu)
endif
ifneq ($(and $(SAN),$(RACES)),)
  $(error SAN=1 and RACES=1 are two builds: g++ does not do both at once)
endif
ifneq ($(PTX),)
  ifneq ($(SAN),)
    $(error PTX=1 goes with RACES=1, not with SAN=1, which leaves kernels as they are)
  endif
  ifeq ($(NVCC),)
    $(error PTX=1 needs nvcc, which makes the PTX: install the CUDA toolkit (12.3 or later) and put nvcc on PATH)
  endif
  ifneq ($(filter-out 80 90 80+90,$(PTX_ARCH))$(filter-out 1,$(words $(PTX_ARCH))),)
    $(error unknown PTX_ARCH '$(PTX_ARCH)': must be 80, 90 or 80+90)
  endif
  ifneq ($(PTX_FROM),)
    ifeq ($(wildcard $(PTX_FROM)),)
      $(error PTX_FROM=$(PTX_FROM) is not there: make TARGET=cuda KEEP_PTX=$(PTX_FROM) leaves the PTX in it)
    endif
  endif
endif
ifeq ($(TARGET),cuda)
  ifneq ($(SAN)$(RACES)$(PTX),)
    $(error SAN=1, RACES=1 and PTX=1 are for TARGET=vgpu; on a GPU use compute-sanitizer)
  endif
  ifeq ($(NVCC),)
    $(error TARGET=cuda needs nvcc: install the CUDA toolkit (12.3 or later) and put nvcc on PATH, or use TARGET=vgpu)
  endif
endif

DEPS_USR := $(abspath $(PREFIX))/usr
SYSTEM_INCLUDE ?= /usr/include /usr/local/include
find_header = $(firstword $(wildcard $(addsuffix /$(1),$(DEPS_USR)/include $(SYSTEM_INCLUDE))))
NEEDED := doctest/doctest.h stb/stb_image.h CLI/CLI.hpp nlohmann/json.hpp zlib.h
MISSING := $(strip $(foreach h,$(NEEDED),$(if $(call find_header,$(h)),,$(h))))
ONEDNN := $(call find_header,dnnl.hpp)
# Open MPI lies in a folder of its own: unpacked here, Debian's, or where mpicc is.
MPI_HOME ?= $(patsubst %/bin/,%,$(dir $(realpath $(shell command -v mpicc))))
MPI_HEADER := $(if $(NO_MPI),,$(firstword $(wildcard $(DEPS_USR)/lib/x86_64-linux-gnu/openmpi/include/mpi.h \
                /usr/lib/x86_64-linux-gnu/openmpi/include/mpi.h $(MPI_HOME)/include/mpi.h)))
# JPEG: its objects and the linker alone know whether the library is there.
JPEG_HEADER := $(if $(NO_TURBO),,$(call find_header,jpeglib.h))
ifneq ($(JPEG_HEADER),)
  JPEG_FLAGS := -DWT_TURBO $(if $(filter $(DEPS_USR)/%,$(JPEG_HEADER)),-isystem $(DEPS_USR)/include/x86_64-linux-gnu)
  JPEG_LIBS := -ljpeg
endif

# ---- flags ----------------------------------------------------------------------------------
PTX_OUT := $(BUILD)/$(TARGET)-ptx$(PTX_ARCH)
OUT := $(if $(PTX),$(PTX_OUT),$(BUILD)/$(TARGET))$(if $(SAN),-san)$(if $(RACES),-races)
# Where objects of *.cpp go, and of *.cu: with RACES=1 the first are those of an ordinary build, with SAN=1 the second, with
# PTX=1 both: its own are the kernels' translated PTX, which a launch takes instead.
HOST_OUT := $(if $(RACES)$(PTX),$(BUILD)/$(TARGET),$(OUT))
CU_OUT := $(if $(PTX),$(BUILD)/$(TARGET),$(OUT))
KERNEL_OUT := $(if $(SAN),$(BUILD)/$(TARGET),$(CU_OUT))
CPPFLAGS += -I. $(if $(wildcard $(DEPS_USR)/include),-isystem $(DEPS_USR)/include)
# restrict: g++ 12 sees overlaps in text + std::string that are none (its bug 105651).
# psabi: a note at every kernel that takes a tensor map by value, about g++ 4.6.
WARN := -Wall -Wextra -Wno-unknown-pragmas $(if $(findstring clang,$(CXX)),,-Wno-restrict -Wno-psabi)
CXXSTD := -std=c++20
# What the PTX depends on is the same for TARGET=cuda and PTX=1.
NVCC_LANGUAGE := -lineinfo --expt-relaxed-constexpr --extended-lambda -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas \
                 -diag-suppress=20012 --threads 1
LDLIBS += -lz -lpthread
DEPS_LIB := $(DEPS_USR)/lib/x86_64-linux-gnu
# RPATH, not RUNPATH: oneDNN's own libraries are found through it too.
ifneq ($(wildcard $(DEPS_LIB)),)
  LDFLAGS += -L$(DEPS_LIB) -Wl,--disable-new-dtags -Wl,-rpath,$(DEPS_LIB)
endif

ifneq ($(MPI_HEADER),)
  MPI_DIR := $(patsubst %/include/mpi.h,%,$(MPI_HEADER))
  MPI_FLAGS := -DWT_MPI -isystem $(MPI_DIR)/include
  LDFLAGS += -L$(MPI_DIR)/lib
  LDLIBS += -lmpi
  ifneq ($(filter $(DEPS_USR)/%,$(MPI_HEADER)),)
    MPIRUN := $(DEPS_USR)/bin/mpirun
    # What libmpi.so needs is named too: its own RUNPATH would not find it here.
    LDLIBS += -Wl,--no-as-needed $(foreach l,open-rte open-pal hwloc event_core event_pthreads,$(addprefix -l:,$(notdir $(firstword $(wildcard $(DEPS_LIB)/lib$(l)*.so.*)))))
  else
    MPIRUN := $(or $(shell command -v mpirun),$(MPI_DIR)/bin/mpirun)
  endif
endif

ifeq ($(TARGET),vgpu)
  # What is compiled how. All at -O3 takes more than twice as long (`make compile-times` prints each file's seconds):
  #   OPT           what a CPU computes with: most kernels, the virtual GPU, decoding images
  #   HOST_OPT      the rest of the host's code, tools and tests, which wait for that
  #   EMULATED_OPT  kernels made for a GPU's units (tensor cores, shuffles), which a CPU does not choose; their rates in
  #                 kernels/README.md are with EMULATED_OPT=-O3 (wgmma's fprop and dgrad run as fast with -Og, wgrad at half)
  #   LEAN_OPT      what -O3 makes 2 % faster in twice the time
  OPT ?= -O3
  LEAN_OPT ?= -O1
  HOST_OPT ?= -Og
  EMULATED_OPT ?= -Og
  CPPFLAGS := -Ihost/vgpu/include -DVGPU $(CPPFLAGS)
  CXXFLAGS += $(CXXSTD) -g1 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -fopenmp $(WARN)
  ifneq ($(ONEDNN),)
    CPPFLAGS += -DWT_ONEDNN
    LDLIBS += -ldnnl
  endif
  # Without what is noticed anyway when the address is used. -Og below: unrolled tiles compile in half the time of -O1.
  UNDEFINED := -fsanitize=undefined -fno-sanitize=null,object-size,pointer-overflow -fno-sanitize-recover=undefined
  ifneq ($(SAN),)
    OPT := -Og
    EMULATED_OPT := -Og
    LEAN_OPT := -Og
    CXXFLAGS += -fsanitize=address $(UNDEFINED) -fno-omit-frame-pointer
    LDFLAGS += -fsanitize=address,undefined
  endif
  ifneq ($(and $(RACES),$(if $(PTX),,1)),)
    # thread: its calls are taken by functions of ours (host/vgpu/diagnosis/races.h), its library is not linked.
    RACE_FLAGS := -Og -fsanitize=thread --param=tsan-instrument-func-entry-exit=0 $(UNDEFINED)
    RACE_LINK := -fsanitize=undefined
  endif
  ifneq ($(PTX),)
    PTX_NVCC := $(NVCC) -I. $(if $(wildcard $(DEPS_USR)/include),-isystem $(DEPS_USR)/include) $(CXXSTD) -O2 $(NVCC_LANGUAGE)
    # PTX says which products are fused with sums, and its integers wrap.
    PTX_AT = -Ihost/vgpu/include -DVGPU -I. $(CXXSTD) $(1) -g1 -march=native -ffp-contract=off -fno-strict-aliasing -fwrapv -w
    PTX_FLAGS := $(if $(RACES),-fsanitize=thread --param=tsan-instrument-func-entry-exit=0) $(call PTX_AT,-O1)
    COUNTED_FLAGS := $(call PTX_AT,-O0)
  endif
  LDFLAGS += -fopenmp -rdynamic
  CU_COMPILE = $(CXX) -x c++ $(CPPFLAGS) $(CXXFLAGS) $(LEVEL) $(RACE_FLAGS) $(USE_PCH) -MMD -MP -c $< -o $@
  LINK = $(CXX) $(RACE_LINK)
else
  CUDA_HOME := $(patsubst %/bin/,%,$(dir $(realpath $(NVCC))))
  CUDA_INC := $(CUDA_HOME)/include
  CPPFLAGS += -isystem $(CUDA_INC)
  # OPT is of what a CPU computes with beside the GPU, decoding and making images; g++ 12's -O2 does not vectorise its
  # loops (images of `--data synthetic`: 131 to 230 us each, 31 to 36 with -O3). nvcc and the rest of the host's code wait
  # for the GPU, not it.
  HOST_OPT ?= $(if $(filter command environment,$(firstword $(origin OPT))),$(OPT),-O2)
  OPT ?= -O3
  EMULATED_OPT := $(HOST_OPT)
  LEAN_OPT := $(HOST_OPT)
  CXXFLAGS += $(CXXSTD) -g1 $(WARN)
  CUDNN  := $(firstword $(wildcard $(CUDA_INC)/cudnn.h) $(call find_header,cudnn.h))
  CUBLAS := $(wildcard $(CUDA_INC)/cublas_v2.h)
  CUDA_LIB := $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/lib))
  ifneq ($(CUDNN),)
    CPPFLAGS += -DWT_CUDNN
    LDLIBS += -lcudnn
  endif
  ifneq ($(CUBLAS),)
    CPPFLAGS += -DWT_CUBLAS
    LDLIBS += -lcublasLt
  endif
  NCCL := $(if $(MPI_HEADER),$(firstword $(wildcard $(CUDA_INC)/nccl.h) $(call find_header,nccl.h)))
  ifneq ($(NCCL),)
    MPI_FLAGS += -DWT_NCCL
    LDLIBS += -lnccl
  endif
  LDLIBS += -lcudart -ldl
  LDFLAGS += -L$(CUDA_LIB) -Wl,-rpath,$(CUDA_LIB) $(foreach d,$(wildcard $(CUDA_HOME)/lib),-L$(d) -Wl,-rpath,$(d))
  NEWEST := $(lastword $(ARCHS))
  GENCODE = $(foreach a,$(ARCHS),-gencode=arch=compute_$(a),code=sm_$(a)) -gencode=arch=compute_$(NEWEST),code=compute_$(NEWEST)
  # Files that use wgmma and TMA need the a-architecture; -arch would add a plain pass that rejects them.
  %_sm90.o: GENCODE := -gencode=arch=compute_90a,code=sm_90a
  NVCCFLAGS += $(CXXSTD) $(HOST_OPT) $(NVCC_LANGUAGE) -Xptxas=--warn-on-spills
  # What the compiler says is kept beside the object: profiling/sass.py reads it.
  CU_COMPILE = $(KEEP_IN)$(NVCC) $(CPPFLAGS) $(NVCCFLAGS) $(GENCODE) $(KEEP) -MMD -MP -c $< -o $@ >$(@:.o=.log) 2>&1; rc=$$?; cat $(@:.o=.log) >&2; $(KEPT)exit $$rc
  # nvcc keeps all that it makes on its way, which is much; one architecture has one PTX.
  ifneq ($(KEEP_PTX),)
    ifneq ($(words $(ARCHS)),1)
      $(error KEEP_PTX goes with one of ARCHS, not with '$(ARCHS)')
    endif
    KEEP_IN = mkdir -p $(@:.o=.keep); 
    KEEP = --keep --keep-dir $(@:.o=.keep)
    KEPT = [ $$rc != 0 ] || { mkdir -p $(KEEP_PTX)/$(dir $<) && mv $(@:.o=.keep)/$(basename $(notdir $<)).ptx $(KEEP_PTX)/$(<:.cu=.ptx); } || rc=1; rm -rf $(@:.o=.keep); 
  endif
  LINK = $(CXX)
endif

# ---- sources --------------------------------------------------------------------------------
LIB_SRC := $(wildcard kernels/*.cu kernels/*/*.cu kernels/*.cpp kernels/*/*.cpp host/*.cpp host/cuda/*.cpp host/net/*.cpp \
             host/parallel/*.cpp host/train/*.cpp host/model/*.cpp host/draw/*.cpp host/report/*.cpp host/bench/*.cpp host/bench/ops/*.cpp data/*.cpp)
ifeq ($(TARGET),vgpu)
  LIB_SRC += $(wildcard host/vgpu/*/*.cpp)
  LIB_SRC := $(filter-out %_cudnn.cpp %_cublas.cpp $(if $(ONEDNN),,%_onednn.cpp),$(LIB_SRC))
else
  LIB_SRC := $(filter-out %_onednn.cpp %_cpu.cpp $(if $(CUDNN),,%_cudnn.cpp) $(if $(CUBLAS),,%_cublas.cpp),$(LIB_SRC))
endif
LIB_SRC := $(filter-out $(if $(JPEG_HEADER),,%_turbo.cpp) $(if $(MPI_HEADER),,%_mpi.cpp) $(if $(NCCL),,%_nccl.cpp),$(LIB_SRC))
TEST_SRC := $(filter-out $(if $(MPI_HEADER),,%_mpi.cpp),$(wildcard test/*.cpp test/*.cu test/reference/*.cpp))
ifeq ($(TARGET),cuda)
  TEST_SRC := $(filter-out test/vgpu_only_%,$(TEST_SRC))
endif
TOOLS := $(patsubst tools/%.cpp,%,$(filter-out tools/common_%.cpp tools/train_%.cpp $(if $(filter cuda,$(TARGET)),tools/vgpu.cpp),$(wildcard tools/*.cpp)))
COMMON_SRC := $(wildcard tools/common_*.cpp)

objects     = $(patsubst %.cu,$(CU_OUT)/%.o,$(filter %.cu,$(1))) $(patsubst %.cpp,$(HOST_OUT)/%.o,$(filter %.cpp,$(1)))
KERNEL_OBJ := $(patsubst %.cu,$(KERNEL_OUT)/%.o,$(filter %.cu,$(LIB_SRC)))
LIB_OBJ    := $(KERNEL_OBJ) $(call objects,$(filter-out %.cu,$(LIB_SRC)))
TEST_OBJ   := $(call objects,$(TEST_SRC))
COMMON_OBJ := $(call objects,$(COMMON_SRC))
TRAIN_SRC  := $(wildcard tools/train*.cpp)
TRAIN_MAIN := $(call objects,$(TRAIN_SRC))
TOOL_OBJ   := $(sort $(TOOLS:%=$(HOST_OUT)/tools/%.o) $(TRAIN_MAIN))
PROGRAMS   := $(addprefix $(OUT)/bin/,$(TOOLS))
ifneq ($(PTX),)
  # Files of sm_90 alone have no code for sm_80.
  ptx_objects = $(patsubst %.cu,$(OUT)/%.ptx.o,$(filter-out $(if $(filter 80,$(PTX_ARCH)),%_sm90.cu),$(filter %.cu,$(1))))
  LIB_OBJ  += $(call ptx_objects,$(LIB_SRC))
  TEST_OBJ += $(call ptx_objects,$(filter-out test/vgpu_only_%,$(TEST_SRC)) $(filter test/vgpu_only_%_sm90.cu,$(TEST_SRC)))
  # Kernels that count besides (bin/compare --counters), in the programs that ask for them: compiled once more, as fast as
  # can be. Where races are looked for there are none.
  ifeq ($(RACES),)
    counted_objects = $(patsubst %.ptx.o,%.counted.o,$(call ptx_objects,$(1)))
    COMPARE_COUNTED := $(call counted_objects,$(LIB_SRC))
    TEST_COUNTED    := $(call counted_objects,test/test_counters_sm90.cu kernels/conv/fprop_wgmma_sm90.cu)
  endif
endif
# What bin/train alone does not need, so that `make run` need not wait for it.
TRAIN_OBJ  := $(filter-out $(addprefix $(HOST_OUT)/host/,model/% bench/predicted.o bench/report.o bench/report_html.o \
                bench/counters.o bench/counters_text.o $(addprefix vgpu/ptx_exec/,count_warps.o counted.o counters.o)),$(LIB_OBJ))

# Sources by how they are compiled (see OPT above), and by which of the C++ library's headers they find precompiled.
ALL_SRC      := $(LIB_SRC) $(TEST_SRC) $(COMMON_SRC) $(TRAIN_SRC) $(filter-out tools/train.cpp,$(TOOLS:%=tools/%.cpp))
SRC_test     := $(filter test/%,$(ALL_SRC))
SRC_emulated := $(filter kernels/%_sm90.cu kernels/%mma_sm80.cu kernels/lrn_pool/%_fused.cu kernels/lrn/%_shuffle.cu,$(ALL_SRC))
SRC_host     := $(filter-out host/bench/ops/% host/bench/verify.cpp host/net/params.cpp,$(filter host/json.cpp host/build_kind.cpp tools/% \
                  $(addprefix host/,$(addsuffix /%,bench cuda model net parallel train)) \
                  $(filter-out %/arena.cpp,$(wildcard host/vgpu/runtime/*.cpp)) $(addprefix host/vgpu/,$(addsuffix .cpp,exec/share ptx/tensor_map \
                  diagnosis/profile diagnosis/report diagnosis/symbols)) \
                  $(addprefix data/,$(addsuffix .cpp,cifar10 dataset folder idx)) \
                  kernels/vendor/plan_onednn.cpp kernels/conv/baseline_onednn.cpp kernels/lrn/baseline_onednn.cpp kernels/pool/baseline_onednn.cpp,\
                  $(ALL_SRC)))
SRC_lean     := kernels/gemm/tiled.cu
SRC_compute  := $(filter-out $(SRC_test) $(SRC_emulated) $(SRC_host) $(SRC_lean),$(ALL_SRC))

# ---- rules ----------------------------------------------------------------------------------
.PHONY: all programs run test help claims format decode-rate loader-rate deps clean found gpu-report results sass sass-tools kernel-objects plain-kernels compile-times bin ptx-faults ptx-rate
.SECONDARY:

ifneq ($(MISSING),)
# Libraries are missing: install them, then start again with them in view.
ifdef DEPS_TRIED
  $(error still missing after make deps: $(MISSING); see $(PREFIX)/deps.log)
endif
WANTED := $(filter-out help format deps clean gpu-report results sass-tools compile-times,$(or $(MAKECMDGOALS),all))
.PHONY: again $(WANTED)
again:
	@echo "missing: $(MISSING)"
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)$(MAKE) --no-print-directory $(WANTED) DEPS_TRIED=1
$(WANTED): again
	@:
else

all: found programs
programs: $(PROGRAMS) bin
bin:
ifeq ($(BUILD),build)
	@[ "$$(readlink bin)" = "$(OUT)/bin" ] || { ln -sfn $(OUT)/bin bin; echo "bin/    is now $(OUT)/bin$(if $(SAN)$(RACES)$(PTX), (a build for finding faults: slow; \`make\` turns it back))"; }
endif

comma := ,
LIBRARIES := $(if $(filter vgpu,$(TARGET)),oneDNN $(if $(ONEDNN),yes,none),cuDNN $(if $(CUDNN),yes,none)$(comma) cuBLAS $(if $(CUBLAS),yes,none)$(comma) NCCL $(if $(NCCL),yes,none))$(comma) MPI $(if $(MPI_HEADER),yes,none)$(comma) libjpeg-turbo $(if $(JPEG_HEADER),yes,none)
found:
	@echo "target  $(TARGET)$(if $(SAN), with sanitizers)$(if $(PTX), with kernels in PTX of sm_$(PTX_ARCH))$(if $(RACES),$(if $(PTX),$(comma) and) with races looked for) ($(WHY))"
	@echo "found   $(notdir $(CXX)) $$($(CXX) -dumpfullversion -dumpversion); nvcc $(NVCC_VERSION); GPU $(or $(GPU),none); $(LIBRARIES)"

# It may write over the run that it left the last time, but not over one that RUN names.
run: found $(OUT)/bin/train bin
	$(Q)$(OUT)/bin/train $(if $(filter --resume% --out%,$(RUN)),,--overwrite) $(RUN)

# The programs too: some tests run them.
# With RACES=1 the suite `kernels`: PTX; the operations, alone and as bin/compare has them; steps of small networks.
# With PTX=1 the same without the tests of what only g++ compiles; on virtual GPUs of sm_80 with PTX of sm_80. Of 80+90
# kernels count as built for sm_80, or those that cannot wait for the kernel before them would be let start early.
T ?= $(if $(RACES)$(PTX),-ts=kernels)
# There training is compared with training by g++'s kernels.
PLAIN_TRAIN := $(if $(PTX),$(HOST_OUT)/bin/train)
test: found $(if $(PTX),$(OUT)/bin/train $(PLAIN_TRAIN),$(if $(RACES),,programs)) $(OUT)/bin/unit
	$(Q)$(if $(PTX),WT_PLAIN_TRAIN=$(abspath $(PLAIN_TRAIN)) $(if $(filter 80,$(PTX_ARCH)),VGPU_CAPABILITY=8.0) $(if $(filter 80+90,$(PTX_ARCH)),VGPU_ARCHS=80) )$(OUT)/bin/unit $(if $(PTX),-sfe=*vgpu_only_wgmma.*$(if $(filter 80,$(PTX_ARCH)),$(comma)*vgpu_only_*_sm90*)) $(T)

# A change of flags rebuilds what it touches: the stamp's text is the flags (and the CPU, which -march=native
# means: a tree copied to another machine is built anew). The second one's is what is linked, so that removing
# a file links again.
CPU := $(shell sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo)
HOST_FLAGS_NOW := $(strip $(TARGET) $(CXX) $(CPPFLAGS) $(MPI_FLAGS) $(CXXFLAGS) $(OPT) $(LEAN_OPT) $(HOST_OPT) $(EMULATED_OPT) $(PCH) $(LDFLAGS) $(LDLIBS) $(if $(filter cuda,$(TARGET)),$(NVCC) $(NVCCFLAGS) $(ARCHS) $(KEEP_PTX)) $(CPU))
FLAGS_NOW := $(strip $(HOST_FLAGS_NOW) $(RACE_FLAGS) $(RACE_LINK) $(if $(PTX),$(PTX_FLAGS)))
STAMP := $(OUT)/flags
HOST_STAMP := $(HOST_OUT)/flags
CU_STAMP := $(CU_OUT)/flags
LINKED := $(OUT)/linked
# Of the kernels' sources and flags: what was measured of others says nothing (host/train/tune.cpp).
KERNELS_ID := $(firstword $(shell (cat $(sort $(wildcard kernels/*.h kernels/*/*.h kernels/*/*.cu kernels/*/*.cpp)); echo '$(HOST_FLAGS_NOW)') | cksum))
$(HOST_OUT)/host/train/tune.o: private CPPFLAGS += -DWT_KERNELS_ID='"$(KERNELS_ID)"'
$(HOST_OUT)/host/train/tune.o: $(HOST_OUT)/kernels_id
# Only these see libjpeg-turbo.
$(addprefix $(HOST_OUT)/data/,image.o jpeg_turbo.o): private CPPFLAGS += $(JPEG_FLAGS)
$(addprefix $(HOST_OUT)/data/,image.o jpeg_turbo.o): $(HOST_OUT)/jpeg_flags
# What is built, for a GPU that is none of these (architecture.h).
ifeq ($(TARGET),cuda)
  $(HOST_OUT)/host/cuda/architecture.o: private CPPFLAGS += -DWT_ARCHS='"$(ARCHS)"'
endif
# Only these see MPI.
$(HOST_OUT)/host/parallel/team.o $(HOST_OUT)/%_mpi.o $(HOST_OUT)/%_nccl.o: private CPPFLAGS += $(MPI_FLAGS)
$(HOST_OUT)/test/%_mpi.o: private CPPFLAGS += -DWT_MPIRUN='"$(MPIRUN)"'
stamp = mkdir -p $(OUT)/bin $(HOST_OUT); echo '$(2)' | cmp -s - $(1) || echo '$(2)' > $(1);
# Not with -n, which is to change nothing.
$(if $(findstring n,$(firstword -$(MAKEFLAGS))),,$(shell $(call stamp,$(STAMP),$(FLAGS_NOW)) $(call stamp,$(HOST_STAMP),$(HOST_FLAGS_NOW)) $(call stamp,$(LINKED),$(TEST_OBJ) $(LIB_OBJ) $(COMMON_OBJ) $(JPEG_LIBS)) \
  $(call stamp,$(HOST_OUT)/kernels_id,$(KERNELS_ID)) $(call stamp,$(HOST_OUT)/jpeg_flags,$(JPEG_FLAGS)) \
  $(if $(PTX),mkdir -p $(PTX_OUT); $(call stamp,$(PTX_OUT)/nvcc_flags,$(NVCC_VERSION) $(PTX_NVCC)))))

# "[ 12/180]": the number of this compile, and of all that a dry run finds to do when the first begins.
done := 0
total = $(eval total := $(shell $(MAKE) -n --no-print-directory COUNTING=1 $(foreach v,TARGET BUILD PREFIX ARCHS SAN RACES PTX PTX_ARCH PTX_FROM KEEP_PTX CXX PCH NO_MPI NO_TURBO,$(v)='$($(v))') $(MAKECMDGOALS) 2>/dev/null | grep -c '^echo "counted'))$(total)
count = $(eval done := $(shell echo $$(($(done) + 1))))$(shell printf '[%3d/%d]' $(done) $(total))
say = @echo "$(if $(COUNTING),counted,$(count)) $(1)"
# Runs a compiler, and notes the seconds that it took for `make compile-times`.
timed = TIMEFORMAT='%U %S $<'; { time $(1) 2>&3; } 3>&2 2>>$(OUT)/seconds

$(CU_OUT)/%.o: %.cu $(CU_STAMP)
	@mkdir -p $(@D)
	$(call say,cu   $<)
	$(Q)$(call timed,$(CU_COMPILE))
ifneq ($(PTX),)
# In place of the rule above: kernels' objects are an ordinary build's, and what they become in PTX is beside them. With
# PTX_ARCH=80+90 it is what a program built with ARCHS=80 has, which runs on sm_90 too.
PTX_ARCH_OF = $(if $(filter %_sm90.cu,$<),90a,$(firstword $(subst +, ,$(PTX_ARCH))))
TRANSLATOR := $(addprefix host/vgpu/ptx_exec/,translate.py parse.py forms.py)
ifneq ($(PTX_FROM),)
# Where it is; else the next rule makes it.
$(PTX_OUT)/%.ptx: $(PTX_FROM)/%.ptx
	@mkdir -p $(@D)
	$(Q)cp $< $@
endif
$(PTX_OUT)/%.ptx: %.cu $(PTX_OUT)/nvcc_flags
	@mkdir -p $(@D)
	$(call say,ptx  $<)
	$(Q)$(call timed,$(PTX_NVCC) -arch=compute_$(PTX_ARCH_OF) -ptx -MD -MP -MT $@ -MF $(@:.ptx=.d) $< -o $@)
$(PTX_OUT)/%.ptx.cpp: $(PTX_OUT)/%.ptx $(TRANSLATOR)
	$(Q)python3 host/vgpu/ptx_exec/translate.py $< $@
$(OUT)/%.ptx.o: $(PTX_OUT)/%.ptx.cpp $(STAMP)
	@mkdir -p $(@D)
	$(call say,c++  $<)
	$(Q)$(call timed,$(CXX) $(PTX_FLAGS) -MMD -MP -c $< -o $@)
$(PTX_OUT)/%.counted.cpp: $(PTX_OUT)/%.ptx $(TRANSLATOR) host/vgpu/ptx_exec/count.py
	$(Q)python3 host/vgpu/ptx_exec/translate.py --count $< $@
$(OUT)/%.counted.o: $(PTX_OUT)/%.counted.cpp $(STAMP)
	@mkdir -p $(@D)
	$(call say,c++  $<)
	$(Q)$(call timed,$(CXX) $(COUNTED_FLAGS) -MMD -MP -c $< -o $@)
-include $(patsubst %.o,%.d,$(sort $(COMPARE_COUNTED) $(TEST_COUNTED)))
# Faults in the wrappers' assembly, one at a time: does this build see them? Only the tests' PTX is needed.
PTX_TESTS := $(patsubst %.cu,%,$(wildcard test/test_ptx_*.cu))
FAULT_OBJ := $(filter-out %.ptx.o,$(LIB_OBJ) $(COMMON_OBJ)) $(HOST_OUT)/test/main.o $(PTX_TESTS:%=$(CU_OUT)/%.o)
ptx-faults: found $(FAULT_OBJ) $(PTX_TESTS:%=$(PTX_OUT)/%.ptx)
	$(Q)python3 test/ptx_faults.py --ptx $(PTX_OUT)/test --objects '$(FAULT_OBJ)' $(FAULTS) \
	    --compile '$(CXX) $(PTX_FLAGS) -fsanitize=thread --param=tsan-instrument-func-entry-exit=0' \
	    --link '$(LINK) $(LDFLAGS) OBJECTS $(JPEG_LIBS) $(LDLIBS)'
-include $(patsubst $(OUT)/%.ptx.o,$(PTX_OUT)/%.d,$(filter %.ptx.o,$(LIB_OBJ) $(TEST_OBJ)))
endif
$(HOST_OUT)/%.o: %.cpp $(HOST_STAMP)
	@mkdir -p $(@D)
	$(call say,c++  $<)
	$(Q)$(call timed,$(CXX) $(CPPFLAGS) $(CXXFLAGS) $(LEVEL) $(USE_PCH) -MMD -MP -c $< -o $@)

# g++ reads headers in no time when they are compiled beforehand with the same flags.
# Of objects: how they are compiled (a SRC_ list), the level, the folder, RACE_FLAGS where they are compiled with them.
PCH_COMPILE = $(CXX) $(CPPFLAGS) $(CXXFLAGS) $(LEVEL) $(RACE) -MMD -MP -x c++-header $< -o $@
define compiled_as
$(1): private LEVEL := $(3)
ifneq ($(and $(PCH),$(strip $(1)),$(filter-out lean,$(2))),)
$(1): private USE_PCH := -include $(4)/pch/$(2).h
$(1): $(4)/pch/$(2).h.gch
$(4)/pch/$(2).h.gch: private LEVEL := $(3)
$(4)/pch/$(2).h.gch: private RACE := $(5)
$(4)/pch/$(2).h.gch: $(if $(filter host test,$(2)),$(2),kernels)/precompiled.h $(4)/flags
	@mkdir -p $$(@D)
	$$(call say,h    $$< for $(2))
	@cp $$< $(4)/pch/$(2).h
	$(Q)$$(call timed,$$(PCH_COMPILE))
-include $(4)/pch/$(2).h.d
endif
endef
# Clang has precompiled headers of its own kind. For real GPUs there are none: nvcc has none, and takes most of the time; so CI's
# compile for them sees whether a file includes what it uses.
ifneq ($(findstring clang,$(CXX))$(filter cuda,$(TARGET)),)
  override PCH :=
endif
SORTS := compute:$(OPT) lean:$(LEAN_OPT) host:$(HOST_OPT) emulated:$(EMULATED_OPT) test:$(HOST_OPT)
each_sort = $(foreach k,$(SORTS),$(eval $(call compiled_as,$(call objects,$(filter $(1),$(SRC_$(word 1,$(subst :, ,$(k)))))),$(word 1,$(subst :, ,$(k))),$(word 2,$(subst :, ,$(k))),$(2),$(3))))
ifeq ($(CU_OUT),$(HOST_OUT))
  ifeq ($(TARGET),vgpu)
    $(call each_sort,%.cpp %.cu,$(HOST_OUT))
  else
    $(call each_sort,%.cpp,$(OUT))
  endif
else
  $(call each_sort,%.cpp,$(HOST_OUT))
  $(call each_sort,%.cu,$(OUT),$(RACE_FLAGS))
endif

ifneq ($(SAN),)
# An ordinary build knows whether they are up to date; so here they always count as new, and what has them is linked again.
$(KERNEL_OBJ): plain-kernels ;
plain-kernels:
	$(if $(COUNTING),@:,$(Q)$(MAKE) --no-print-directory TARGET=$(TARGET) SAN= kernel-objects)
endif
kernel-objects: $(KERNEL_OBJ)
$(OUT)/bin/unit: $(TEST_OBJ) $(LIB_OBJ) $(COMMON_OBJ) $(TEST_COUNTED) $(LINKED)
	@echo "  link $@"
	$(Q)$(LINK) $(LDFLAGS) $(filter %.o,$^) $(JPEG_LIBS) $(LDLIBS) -o $@
$(OUT)/bin/train: $(TRAIN_MAIN) $(TRAIN_OBJ) $(COMMON_OBJ) $(LINKED)
$(PLAIN_TRAIN): $(TRAIN_MAIN) $(filter-out %.ptx.o,$(TRAIN_OBJ)) $(COMMON_OBJ)
$(filter-out %/train,$(PROGRAMS)): $(OUT)/bin/%: $(HOST_OUT)/tools/%.o $(LIB_OBJ) $(COMMON_OBJ) $(LINKED)
$(OUT)/bin/compare: $(COMPARE_COUNTED)
$(PROGRAMS) $(PLAIN_TRAIN):
	@echo "  link $@"
	@mkdir -p $(@D)
	$(Q)$(LINK) $(LDFLAGS) $(filter %.o,$^) $(JPEG_LIBS) $(LDLIBS) -o $@

-include $(LIB_OBJ:.o=.d) $(TEST_OBJ:.o=.d) $(COMMON_OBJ:.o=.d) $(TOOL_OBJ:.o=.d)

# On one core; see profiling/README.md.
decode-rate: $(OUT)/bin/decode_rate
	$(Q)$(OUT)/bin/decode_rate $(FILES)
loader-rate: $(OUT)/bin/loader_rate
	$(Q)$(OUT)/bin/loader_rate $(DATA) $(if $(COLD),--cold)
ifneq ($(PTX),)
# How fast PTX runs, and, with the same kernels made to count, how many instructions that is.
RATE_OBJ := $(HOST_OUT)/profiling/ptx_rate.o $(LIB_OBJ)
ptx-rate: $(OUT)/bin/ptx_rate
	$(Q)python3 profiling/ptx_rate.py --ptx $(PTX_OUT)/kernels --program $< --objects '$(RATE_OBJ)' \
	    --compile '$(CXX) $(PTX_FLAGS)' --link '$(LINK) $(LDFLAGS) OBJECTS $(JPEG_LIBS) $(LDLIBS)'
endif
$(OUT)/bin/decode_rate $(OUT)/bin/loader_rate $(OUT)/bin/ptx_rate: $(OUT)/bin/%: $(HOST_OUT)/profiling/%.o $(LIB_OBJ) $(LINKED)
	@echo "  link $@"
	$(Q)$(LINK) $(LDFLAGS) $(filter %.o,$^) $(JPEG_LIBS) $(LDLIBS) -o $@

# The papers' claims. CLAIMS="--jobs 1" passes flags on.
claims: claim-all
claim-%: found $(addprefix $(OUT)/bin/,train summary report) bin
	$(Q)profiling/claims/claims.py $* --bin $(OUT)/bin $(if $(DATA),--data $(DATA)) $(if $(IMAGENET),--imagenet $(IMAGENET)) $(if $(FULL),--full) $(CLAIMS)

include test/fuzz/fuzz.mk

# CPU seconds of each file's last compile, the longest last, and of all.
compile-times:
	@awk '{t[$$3] = $$1 + $$2} END {for (f in t) {printf "%7.2f %s\n", t[f], f; s += t[f]; n++} printf "%7.2f all %d\n", s, n}' $(OUT)/seconds | sort -n
endif

# Tracked sources and new ones. Another major version formats otherwise.
format:
	$(Q)v=$$(clang-format --version 2>/dev/null | grep -oE 'version [0-9]+'); [ "$$v" = "version 14" ] || \
	    { echo "make format needs clang-format 14 (package clang-format-14), not: $${v:-none}" >&2; exit 1; }
	$(Q)git ls-files -co --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i
	$(Q)! git ls-files -co --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' | xargs grep -nP '^(?=.{101}) *//' || \
	    { echo "make format: these comments are longer than 100 columns, and clang-format does not wrap them" >&2; exit 1; }

# The lines at the top of this file.
help:
	@sed -n '/^#   make /,/^$$/s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

deps:
	$(Q)tools/deps.sh "$(PREFIX)"

gpu-report:
	$(Q)profiling/gpu_report.sh $(REPORT)

results:
	$(Q)python3 profiling/results_table.py

# The objects with kernels, for real GPUs, then what is in them; first whether that can be looked at. sass-tools: the
# disassembler from PyPI.
sass:
	$(Q)python3 profiling/sass.py --tools
	$(Q)$(MAKE) --no-print-directory TARGET=cuda kernel-objects
	$(Q)python3 profiling/sass.py $(SASS) $(BUILD)/cuda/kernels
sass-tools:
	$(Q)python3 -m pip install --quiet --no-deps --upgrade --target $(BUILD)/deps/sass nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm

clean:
	$(Q)rm -rf $(BUILD)/vgpu $(BUILD)/vgpu-san $(BUILD)/vgpu-races $(wildcard $(BUILD)/vgpu-ptx*) $(BUILD)/cuda $(BUILD)/ci
	$(Q)[ ! -L bin ] || rm -f bin
