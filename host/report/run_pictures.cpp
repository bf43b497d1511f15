// pictures.json.
#include "host/report/run_pictures.h"

#include <filesystem>

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"
#include "host/train/atomic_file.h"

namespace wt {
namespace {

Json json_of(const RunPictures::Image& i) {
    return {{"name", i.name},
            {"label", i.label},
            {"answer", i.answer},
            {"probability", i.probability},
            {"picture", i.picture}};
}

Json json_of(const std::vector<RunPictures::Image>& images) {
    Json all = Json::array();
    for (const RunPictures::Image& i : images) all.push_back(json_of(i));
    return all;
}

// "" where the text would be something else on a page than a picture that it brings along.
std::string address_in(const Json& j) {
    const std::string text = j.value("picture", "");
    const size_t comma = text.find(";base64,");
    if (comma == text.npos ||
        !(text.starts_with("data:image/png;") || text.starts_with("data:image/jpeg;")))
        return "";
    constexpr const char* kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    return text.find_first_not_of(kDigits, comma + 8) == text.npos ? text : "";
}

RunPictures::Image image_in(const Json& j) {
    return {.name = j.value("name", ""),
            .label = j.value("label", ""),
            .answer = j.value("answer", ""),
            .probability = j.value("probability", 0.0),
            .picture = address_in(j)};
}

std::vector<RunPictures::Image> images_in(const Json& j) {
    std::vector<RunPictures::Image> all;
    for (const Json& one : j) all.push_back(image_in(one));
    return all;
}

RunPictures pictures_in(const Json& j) {
    RunPictures p;
    p.split = j.at("split").get<std::string>();
    p.best = images_in(j.at("best"));
    p.worst = images_in(j.at("worst"));
    p.through = image_in(j.at("through"));
    for (const Json& m : j.at("maps"))
        p.maps.push_back({.layer = m.value("layer", ""),
                          .height = m.value("height", 0),
                          .width = m.value("width", 0),
                          .channels = m.value("channels", 0),
                          .shown = m.value("shown", 0),
                          .picture = address_in(m)});
    p.classes = j.at("classes").get<std::vector<std::string>>();
    p.confusion = j.at("confusion").get<std::vector<int64_t>>();
    if (p.confusion.size() != p.classes.size() * p.classes.size()) p.confusion.clear();
    p.step = j.at("step").get<int64_t>();
    return p;
}

}  // namespace

std::string pictures_path(const std::string& folder) {
    return (std::filesystem::path(folder) / "pictures.json").string();
}

void write_pictures(const std::string& folder, const RunPictures& p) {
    Json maps = Json::array();
    for (const RunPictures::Maps& m : p.maps)
        maps.push_back({{"layer", m.layer},
                        {"height", m.height},
                        {"width", m.width},
                        {"channels", m.channels},
                        {"shown", m.shown},
                        {"picture", m.picture}});
    atomic_write_file(pictures_path(folder),
                      json_text({{"step", p.step},
                                 {"split", p.split},
                                 {"classes", p.classes},
                                 {"confusion", p.confusion},
                                 {"best", json_of(p.best)},
                                 {"worst", json_of(p.worst)},
                                 {"through", json_of(p.through)},
                                 {"maps", maps}}) +
                          "\n",
                      "pictures");
}

RunPictures read_pictures(const std::string& folder) {
    const std::string path = pictures_path(folder);
    if (!std::filesystem::exists(path)) return {};
    try {
        return pictures_in(parse_json(read_whole(path)));
    } catch (const Json::exception&) {
        return {};
    }
}

}  // namespace wt
