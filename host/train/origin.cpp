#include "host/train/origin.h"

#include "host/json.h"

namespace wt {

const RunRecord& Origin::record() const {
    static const RunRecord nothing;
    return position ? position->record : nothing;
}

Origin open_origin(const std::string& path, bool must_go_on, Team* team) {
    Origin o{.path = path, .file = {}, .position = {}};
    Metadata metadata;
    if (!team || team->rank() == 0) {
        o.file = SafetensorsFile::open(path);
        metadata = o.file->metadata();
    }
    if (team) metadata = parse_json(team->broadcast(json_text(metadata))).get<Metadata>();
    const bool ours = metadata.contains("net") && metadata.contains("arguments");
    if (must_go_on || ours) o.position = position_of(metadata, path);
    return o;
}

}  // namespace wt
