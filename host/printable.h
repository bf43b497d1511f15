// Text on its way to a terminal: what comes from files (names of tensors, classes, images), and
// numbers.
#pragma once

#include <cstdint>
#include <string>

namespace wt {

// On one line, and without control characters, by which a file could command the terminal: they
// become blanks and question marks.
inline std::string printable(std::string s) {
    for (size_t i = 0; i < s.size(); ++i) {
        const auto c = static_cast<unsigned char>(s[i]);
        if (c == '\n' || c == '\r' || c == '\t')
            s[i] = ' ';
        else if (c < 0x20 || c == 0x7f)
            s[i] = '?';
        // U+0080 to U+009F in UTF-8: the same commands in one character.
        else if (c == 0xc2 && i + 1 < s.size() && static_cast<unsigned char>(s[i + 1]) < 0xa0)
            s.replace(i, 2, "?");
    }
    while (!s.empty() && s.back() == ' ') s.pop_back();
    return s;
}

// 62378344 -> 62,378,344
inline std::string grouped(int64_t n) {
    std::string s = std::to_string(n);
    for (int i = static_cast<int>(s.size()) - 3; i > (n < 0 ? 1 : 0); i -= 3) s.insert(i, ",");
    return s;
}

}  // namespace wt
