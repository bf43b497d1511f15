// Single images on a run's page.
#include <algorithm>

#include "host/draw/page.h"
#include "host/report/run_pictures.h"

namespace wt {
namespace {

using draw::escaped;

// "99.3 %", "0.0021 %", not to be broken.
std::string percent(double share) {
    const double p = 100 * share;
    return (p >= 1 ? draw::fixed(p, 1) : draw::number(p, 2)) + "&nbsp;%";
}

std::string picture(const std::string& address, const std::string& alt) {
    if (address.empty()) return "";
    return "<img alt='" + escaped(alt) + "' src='" + address + "'>";
}

std::string thumbnail(const RunPictures::Image& i) {
    std::string s = "<figure>" + picture(i.picture, i.name) + "<figcaption><b>" + escaped(i.label) +
                    "</b> " + percent(i.probability);
    if (i.answer != i.label) s += "<br>taken for " + escaped(i.answer);
    return s + "<br><span class='muted'>" + escaped(i.name) + "</span></figcaption></figure>\n";
}

std::string row_of(const std::string& title, const std::vector<RunPictures::Image>& images) {
    if (images.empty()) return "";
    std::string s = "<h2>" + title + "</h2>\n<div class='thumbs'>\n";
    for (const RunPictures::Image& i : images) s += thumbnail(i);
    return s + "</div>\n";
}

std::string maps_of(const RunPictures& p, const std::string& when) {
    if (p.maps.empty()) return "";
    std::string s = "<h2>An image on its way through the network" + when +
                    "</h2>\n<p class='muted'>Of each "
                    "layer the channels that answer most, each on its own scale: black is its "
                    "least value, white its greatest.</p>\n<div class='maps'>\n";
    s += "<figure class='input'>" + picture(p.through.picture, p.through.name) + "<figcaption><b>" +
         escaped(p.through.label) + "</b><br><span class='muted'>" + escaped(p.through.name) +
         "</span></figcaption></figure>\n";
    for (const RunPictures::Maps& m : p.maps)
        s += "<figure>" + picture(m.picture, m.layer) + "<figcaption><b>" + escaped(m.layer) +
             "</b> <span class='muted'>" + std::to_string(m.shown) + " of " +
             std::to_string(m.channels) + " maps of " + std::to_string(m.height) + "x" +
             std::to_string(m.width) + "</span></figcaption></figure>\n";
    return s + "</div>\n";
}

// Shaded by the share of the row's images; the diagonal in another colour.
std::string cell(int64_t count, int64_t of, bool right) {
    if (count == 0) return "<td class='n'></td>";
    const double share = static_cast<double>(count) / static_cast<double>(of);
    const char* colour = right ? "47 111 222" : "217 98 43";
    return std::string("<td class='n' style='background:rgb(") + colour + " / " +
           draw::fixed(10 + 60 * share, 0) + "%)'>" + std::to_string(count) + "</td>";
}

std::string confusion_of(const RunPictures& p, const std::string& when) {
    if (p.confusion.empty()) return "";
    const size_t n = p.classes.size();
    std::string s = "<h2>Which class is taken for which" + when +
                    "</h2>\n<p class='muted'>A row is a class, "
                    "its columns what its images were taken for; on the right its error.</p>\n"
                    "<div class='scroll'><table class='confusion'>\n<tr><th></th>";
    for (const std::string& name : p.classes)
        s += "<th class='n'><span>" + escaped(name) + "</span></th>";
    s += "<th class='n'><span>error</span></th></tr>\n";
    for (size_t row = 0; row < n; ++row) {
        int64_t all = 0;
        for (size_t k = 0; k < n; ++k) all += p.confusion[row * n + k];
        s += "<tr><th>" + escaped(p.classes[row]) + "</th>";
        for (size_t k = 0; k < n; ++k) s += cell(p.confusion[row * n + k], all, k == row);
        s += "<td class='n muted'>" +
             (all ? draw::fixed(100 - 100.0 * static_cast<double>(p.confusion[row * n + row]) /
                                          static_cast<double>(all),
                                1) +
                        " %"
                  : std::string()) +
             "</td></tr>\n";
    }
    return s + "</table></div>\n";
}

}  // namespace

const char* const kPicturesStyle = R"(
figure { margin: 0; } figcaption { font-size: 13px; line-height: 1.35; overflow-wrap: anywhere; }
figure img { display: block; width: 100%; margin-bottom: 3px; }
figure img[src^='data:image/png'] { image-rendering: pixelated; }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 12px; margin-top: 8px; }
.thumbs img { max-width: 160px; } .thumbs .muted { font-size: 11px; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 14px 20px; margin-top: 8px; }
.maps .input img { width: 160px; }
.confusion { font-size: 13px; } .confusion td, .confusion th { padding: 3px 6px; font-weight: normal; vertical-align: bottom; }
.confusion td { min-width: 30px; white-space: nowrap; } .confusion th span { writing-mode: vertical-rl; transform: rotate(180deg); }
)";

std::string pictures_section(const RunPictures& p) {
    if (p.step < 0) return "";
    const std::string when =
        " (" + escaped(p.split) + ", after step " + std::to_string(p.step) + ")";
    return confusion_of(p, when) + row_of("Surest of their class" + when, p.best) +
           row_of("Missed most" + when, p.worst) + maps_of(p, when);
}

}  // namespace wt
