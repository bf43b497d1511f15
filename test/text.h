// What tests ask of a text.
#pragma once

#include <string>

namespace wt::test {

inline bool has(const std::string& text, const std::string& part) {
    return text.find(part) != text.npos;
}

// How often; the next one begins behind the one before.
inline size_t count(const std::string& text, const std::string& part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
    return n;
}

}  // namespace wt::test
