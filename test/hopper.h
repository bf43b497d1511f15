// What only GPUs of sm_90 have, in tests that run on older ones too.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "host/cuda/device.h"

namespace wt::test {

// Whether device 0 runs wgmma and TMA, as virtual GPUs do that are not told to be older.
inline bool is_hopper() {
    const int sm = device_sm(0);
    return sm == 0 || sm == 90;
}

// The same, and says what is left out where it does not.
inline bool needs_hopper(const char* what) {
    if (!is_hopper())
        MESSAGE("skip: " << std::string(what) << " needs sm_90a, this is sm_" << device_sm(0));
    return is_hopper();
}

}  // namespace wt::test
