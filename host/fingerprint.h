// A 64-bit checksum that tells things apart: FNV-1a. Equal ones may differ.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace wt {

class Fingerprint {
public:
    void add(const void* bytes, size_t n) {
        for (size_t i = 0; i < n; ++i)
            hash_ = (hash_ ^ static_cast<const uint8_t*>(bytes)[i]) * 0x100000001b3ull;
    }
    void add(const std::string& s) { add(s.c_str(), s.size() + 1); }  // its end too
    void add(uint64_t n) { add(&n, sizeof n); }
    uint64_t value() const { return hash_; }

private:
    uint64_t hash_ = 0xcbf29ce484222325ull;
};

}  // namespace wt
