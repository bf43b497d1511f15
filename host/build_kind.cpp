#include "host/build_kind.h"

#include <cstdio>

#include "kernels/build_kind.h"

namespace wt {

std::string build_kind() {
#ifdef __SANITIZE_ADDRESS__
    return "built with SAN=1: AddressSanitizer and UBSan, slow; `make` makes the ordinary build "
           "again";
#endif
    if (kernels_look_for_races())
        return "built with RACES=1: looks for races in kernels, very slow; `make` makes the "
               "ordinary build again";
    return "";
}

void say_build_kind(const char* name) {
    if (const std::string kind = build_kind(); !kind.empty())
        std::fprintf(stderr, "%s: %s\n", name, kind.c_str());
}

}  // namespace wt
