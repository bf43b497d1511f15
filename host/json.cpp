#include "host/json.h"

namespace wt {

Json parse_json(const std::string& text) { return Json::parse(text); }
Json try_parse_json(const std::string& text) { return Json::parse(text, nullptr, false); }
std::string json_text(const Json& value, int indent) {
    return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace wt
