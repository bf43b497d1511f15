// What was never written, made visible: a fuzzer decodes each input twice, with all memory that
// malloc gives filled with another byte each time, and compares. Linked with
// -Wl,--wrap=malloc,--wrap=realloc, for libraries too that are linked from an archive.
#pragma once

#include <cstddef>

namespace wt::fuzz {

// The byte for memory from here on.
void fill_memory_with(unsigned char byte);

// Prints `what` and ends the program, as a fault that libFuzzer keeps the input of.
[[noreturn]] void fault(const char* what);

}  // namespace wt::fuzz
