#include "host/train/origin.h"

#include "host/json.h"
#include "host/train/foreign_weights.h"
#include "host/train/weights_file.h"

namespace wt {

const RunRecord& Origin::record() const { return position ? position->record : weights; }

Origin open_origin(const std::string& path, bool must_go_on, Team* team) {
    Origin o;
    o.path = path;
    Metadata metadata;
    if (!team || team->rank() == 0) {
        if (const std::string how = how_to_convert(path); !how.empty()) throw Error(how);
        o.file = SafetensorsFile::open(path);
        metadata = o.file->metadata();
        o.torchvision = naming_of(*o.file) == Naming::torchvision;
    }
    if (team) {
        const Json known = parse_json(
            team->broadcast(json_text({{"metadata", metadata}, {"torchvision", o.torchvision}})));
        known.at("metadata").get_to(metadata);
        known.at("torchvision").get_to(o.torchvision);
    }
    const bool ours = metadata.contains("net") && metadata.contains("arguments");
    if (must_go_on || ours)
        o.position = position_of(metadata, path);
    else if (metadata.contains("normalisation") || metadata.contains("classes"))
        o.weights = read_record(metadata, path);
    return o;
}

}  // namespace wt
