#include "test/fuzz/filled_memory.h"

#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {
unsigned char fill = 0;
}

extern "C" {
void* __real_malloc(size_t);
void* __real_realloc(void*, size_t);

void* __wrap_malloc(size_t n) {
    void* p = __real_malloc(n);
    if (p) std::memset(p, fill, n);
    return p;
}
void* __wrap_realloc(void* old, size_t n) {
    const size_t had = old ? malloc_usable_size(old) : 0;
    void* p = __real_realloc(old, n);
    if (p && n > had) std::memset(static_cast<char*>(p) + had, fill, n - had);
    return p;
}
}

namespace wt::fuzz {

void fill_memory_with(unsigned char byte) { fill = byte; }

void fault(const char* what) {
    std::fprintf(stderr, "FAULT: %s\n", what);
    std::abort();
}

}  // namespace wt::fuzz
