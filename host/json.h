// JSON, by nlohmann's library. Its parser and its writer are compiled once, in json.cpp: each file
// that instantiates them itself takes 1.5 s longer to compile. Headers name it by
// <nlohmann/json_fwd.hpp>.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace wt {

// Keys in the order in which they were written; a NaN or an infinity is written as null.
using Json = nlohmann::ordered_json;

// Throws Json::exception where the text is none.
Json parse_json(const std::string& text);
// The same; discarded (Json::is_discarded) where the text is none.
Json try_parse_json(const std::string& text);

// In one line, or with `indent` blanks a level. Bytes that are no UTF-8 are replaced.
std::string json_text(const Json& value, int indent = -1);

}  // namespace wt
