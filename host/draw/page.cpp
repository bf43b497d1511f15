#include "host/draw/page.h"

#include <cstdint>
#include <cstdio>

#include "host/draw/style.h"

namespace wt::draw {

std::string escaped(const std::string& text) {
    std::string s;
    for (const char c : text) switch (c) {
            case '<': s += "&lt;"; break;
            case '>': s += "&gt;"; break;
            case '&': s += "&amp;"; break;
            case '"': s += "&quot;"; break;
            case '\'': s += "&#39;"; break;
            default: s += c;
        }
    return s;
}

std::string number(double v, int digits) {
    char s[32];
    std::snprintf(s, sizeof s, "%.*g", digits, v);
    return s;
}
std::string fixed(double v, int places) {
    char s[32];
    std::snprintf(s, sizeof s, "%.*f", places, v);
    return s;
}

namespace {

constexpr const char* kStyle = R"(
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 36px 0 2px; }
p { margin: 2px 0; } .muted { color: var(--muted); font-size: 13px; } .bad { color: var(--bad); }
.key i { display: inline-block; width: 12px; height: 12px; margin: 0 5px 0 14px; border-radius: 2px;
  vertical-align: -1px; } .key i:first-child { margin-left: 0; }
.scroll { overflow-x: auto; } .scroll > svg { min-width: 900px; }
svg { display: block; width: 100%; height: auto; margin-top: 6px; }
table { border-collapse: collapse; margin-top: 8px; font-size: 14px; }
td, th { text-align: left; padding: 3px 18px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
)";

// The colours as variables, and what pictures make of them.
std::string colours() {
    std::string light, dark;
    for (const Colour& c : kColours) {
        light += std::string(" --") + c.name + ": " + c.light + ";";
        dark += std::string(" --") + c.name + ": " + c.dark + ";";
    }
    return ":root { color-scheme: light dark;" + light +
           " }\n@media (prefers-color-scheme: dark) { :root {" + dark + " } }\n" +
           picture_rules([](const Colour& c) { return std::string("var(--") + c.name + ")"; });
}

}  // namespace

std::string page(const std::string& title, const std::string& style, const std::string& body) {
    return "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
           "<meta name='viewport' content='width=device-width'>\n<title>" +
           escaped(title) + "</title>\n<style>" + kStyle + colours() + style +
           "</style></head><body><main>\n" + body + "</main></body></html>\n";
}

static std::string address(const char* kind, const std::string& bytes) {
    constexpr const char* kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string s = std::string("data:image/") + kind + ";base64,";
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t bits = 0;
        const size_t n = std::min<size_t>(3, bytes.size() - i);
        for (size_t k = 0; k < 3; ++k)
            bits = bits << 8 | (k < n ? static_cast<uint8_t>(bytes[i + k]) : 0u);
        for (size_t k = 0; k < 4; ++k) s += k <= n ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
    }
    return s;
}

std::string png_address(const std::string& png) { return address("png", png); }
std::string jpeg_address(const std::string& jpeg) { return address("jpeg", jpeg); }

}  // namespace wt::draw
