#include "data/npy.h"

#include <charconv>

namespace wt {
namespace {

constexpr size_t kBefore = 10;  // the magic, the version and the length of the text

// What stands behind 'KEY': in the dictionary, without blanks in front; "" where it is not there.
std::string value_of(const std::string& text, const std::string& key) {
    const size_t at = text.find("'" + key + "':");
    if (at == text.npos) return {};
    const size_t begin = text.find_first_not_of(' ', at + key.size() + 3);
    return begin == text.npos ? std::string() : text.substr(begin);
}

}  // namespace

std::string npy_header(const std::string& type, const std::vector<int64_t>& shape, size_t bytes) {
    std::string text = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    text += shape.size() == 1 ? ",), }" : "), }";
    size_t whole = (kBefore + text.size() + 1 + 63) / 64 * 64;
    if (whole < bytes) whole = (bytes + 63) / 64 * 64;
    text.append(whole - kBefore - text.size() - 1, ' ');
    text += '\n';
    std::string header("\x93NUMPY\x01\x00", 8);
    header += static_cast<char>(text.size() & 0xff);
    header += static_cast<char>(text.size() >> 8);
    return header + text;
}

std::string parse_npy_header(const std::string& start, NpyHeader& header) {
    if (start.size() < kBefore || start.compare(0, 6, "\x93NUMPY") != 0)
        return "not a NumPy array file";
    if (start[6] != 1) return "a NumPy array file of another version than 1.0";
    const size_t length =
        static_cast<uint8_t>(start[8]) + 256 * static_cast<size_t>(static_cast<uint8_t>(start[9]));
    header.data = kBefore + length;
    if (header.data > start.size()) return "cut off in its header";
    const std::string text = start.substr(kBefore, length);
    const std::string type = value_of(text, "descr");
    if (type.size() < 2 || type[0] != '\'' || type.find('\'', 1) == type.npos)
        return "not an array of plain numbers";
    header.type = type.substr(1, type.find('\'', 1) - 1);
    if (!value_of(text, "fortran_order").starts_with("False")) return "not in C order";
    const std::string shape = value_of(text, "shape");
    if (!shape.starts_with("(") || shape.find(')') == shape.npos) return "without a shape";
    header.shape.clear();
    const char* at = shape.data() + 1;
    const char* end = shape.data() + shape.find(')');
    while (at < end) {
        if (*at == ' ' || *at == ',') {
            ++at;
            continue;
        }
        int64_t n = 0;
        const auto r = std::from_chars(at, end, n);
        if (r.ec != std::errc() || n < 0) return "without a shape";
        header.shape.push_back(n);
        at = r.ptr;
    }
    return "";
}

}  // namespace wt
